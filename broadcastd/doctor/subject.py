"""What is looked at: the settings, the daemon if there is one, each account; and what checks share."""

import asyncio
import contextlib
import os
import pwd
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from broadcastd import settings_file, tls
from broadcastd.audiences.engine import open_database
from broadcastd.audiences.inspection import Ids, Inspection, Openids, Server
from broadcastd.audiences.token_table import TableTokenSource
from broadcastd.channels.inspection import Reach, reach
from broadcastd.channels.quota import WechatQuotas
from broadcastd.channels.token_api import ask_for_token
from broadcastd.channels.wechat import WechatApi
from broadcastd.clock import Clock, SystemClock
from broadcastd.doctor.waiting import DaemonThreads, Once
from broadcastd.errors import AudienceUnavailableError, NoDaemonError, SettingsError, TokenUnavailableError
from broadcastd.ledgers.inspection import Seen, ServerSeen, lock_holder, look_at_file, look_at_server
from broadcastd.server_settings import ServerSettings
from broadcastd.settings import AccountSettings, Settings
from broadcastd.shared_token import NoTokenError
from broadcastd.transports import open_transport
from broadcastd.wire import dial

BOUND_S = 10.0
"""How long a check may take."""
ANSWER_S = 8.0
"""How long one question may take: a check that asks is to say itself what did not answer."""
REPLY_S = 4.0
"""A daemon answers within milliseconds."""
CONNECTIONS = 4
"""To an account's database, and to its API: so many checks ask at the same time."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


class Line(Enum):
    """What came of asking the port."""

    ANSWERS = "a daemon answers"
    REFUSES = "a daemon answers, and refuses the settings' token"
    FOREIGN = "something else answers"
    HANGS = "somebody listens and does not answer"
    SILENT = "nobody listens"
    UNTRUSTED = "it cannot be spoken to: TLS does not come about"


@dataclass(frozen=True, slots=True)
class Daemon:
    """What came of asking for `info`."""

    line: Line
    reply: dict[str, Any]
    words: str = ""

    @property
    def pid(self) -> int | None:
        """Of the daemon that answered."""
        return self.reply.get("pid")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, or why there is none."""

    text: str = ""
    expires_in_s: int | None = None
    """Known where WeChat itself gave it."""
    trouble: str = ""


class AccountSubject:
    """One account: its database and its API, with what several checks want to know of them."""

    def __init__(self, name: str, settings: AccountSettings, clock: Clock) -> None:
        self.name = name
        self.settings = settings
        self.clock = clock
        self.now: datetime = clock.now()
        bounded = settings.audience.model_copy(
            update={
                "query_timeout_s": ANSWER_S, "connect_timeout_s": ANSWER_S / 2, "pool_size": CONNECTIONS,
            }
        )  # fmt: skip
        http = settings.http.model_copy(
            update={"connect_timeout_s": ANSWER_S / 2, "answer_timeout_s": ANSWER_S / 2}
        )
        self.database = open_database(bounded)
        self.inspection = Inspection(
            self.database, settings.model_copy(update={"audience": bounded, "http": http})
        )
        self.api = WechatApi(settings.api_base, open_transport(http, CONNECTIONS))
        self.quotas = WechatQuotas(self.api, settings)
        self.seen_ids = Ids()
        self.known_token = ""
        self.reach: Once[Reach] = Once(lambda: reach(settings.api_base, ANSWER_S / 2))
        self.server: Once[Server] = Once(self.inspection.server)
        self._ids: Once[None] = Once(lambda: self.inspection.ids(self.now, self.seen_ids))
        self.openids: Once[Openids] = Once(lambda: self.inspection.openids(self.now))
        self.token: Once[Token] = Once(self._token)

    async def _token(self) -> Token:
        token = await self._asked_for_token()
        self.known_token = token.text
        return token

    async def _asked_for_token(self) -> Token:
        settings = self.settings
        try:
            if settings.token.source == "api" and settings.app_secret is not None:
                granted = await ask_for_token(self.api, settings.app_id, settings.app_secret)
                return Token(granted.token, granted.expires_in_s)
            await self.server()  # else it would wait for a database that is known to be away
            source = TableTokenSource(self.database, settings.token.query, self.name, self.clock)
            return Token(await source.token())
        except AudienceUnavailableError as error:
            return Token(trouble=f"the access token cannot be read: {error}")
        except (NoTokenError, TokenUnavailableError) as error:
            return Token(trouble=str(error))

    async def ids(self) -> Ids:
        """What one pass over the eligible ids sees in good time. Raises AudienceUnavailableError."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await self._ids()
        return self.seen_ids

    async def close(self) -> None:
        """End what is asked, hang up."""
        for once in (self.reach, self.server, self._ids, self.openids, self.token):
            await once.close()
        await self.api.close()
        await self.database.close()


class Subject:
    """The installation."""

    def __init__(self, path: Path | None, *, offline: bool, clock: Clock | None = None) -> None:
        self.path = path
        self.offline = offline
        self.clock = clock or SystemClock()
        self.settings: Settings | None = None
        self.trouble = ""
        try:
            self.settings = settings_file.load(path)
        except SettingsError as error:
            self.trouble = str(error)
        self.accounts: list[AccountSubject] = []
        self.daemon: Once[Daemon] = Once(self._daemon)
        self.ledger_server: Once[ServerSeen] = Once(self._ledger_server)

    @property
    def whole(self) -> Settings:
        """The settings, for the checks that are not run without any."""
        if self.settings is None:
            raise SettingsError(self.trouble)
        return self.settings

    @property
    def ledger_file(self) -> Path | None:
        """Where the ledger is a file."""
        url = self.whole.ledger.url.get_secret_value()
        scheme = "sqlite:///"
        return Path(url.removeprefix(scheme)).resolve() if url.startswith(scheme) else None

    async def _ledger_server(self) -> ServerSeen:
        return await look_at_server(self.whole.ledger.url.get_secret_value(), ANSWER_S)

    async def ledger_seen(self) -> Seen:
        """What the ledger says of itself. Raises LedgerUnavailableError."""
        file = self.ledger_file
        if file is None:
            return (await self.ledger_server()).seen
        return await asyncio.to_thread(look_at_file, file)

    async def _daemon(self) -> Daemon:
        return await asyncio.to_thread(lambda: ask_daemon(self.whole.server))

    async def daemon_pid(self) -> int | None:
        """Of the daemon: as it says, or as the lock of its ledger does."""
        pid = (await self.daemon()).pid
        file = self.ledger_file
        return pid if pid is not None or file is None else lock_holder(file)

    async def user_id(self) -> int:
        """Whom the daemon runs as: as seen, as the settings say, the ledger's owner, or whoever asks."""
        pid = await self.daemon_pid()
        user = self.whole.background.user
        if pid is None and user and os.geteuid() == 0:
            with contextlib.suppress(KeyError):
                return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        for place in (Path(f"/proc/{pid}") if pid is not None else None, self.ledger_file):
            with contextlib.suppress(OSError):
                if place is not None:
                    return place.stat().st_uid
        return os.geteuid()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Subject"]:
        """With its accounts; nothing is connected before a check wants it."""
        asyncio.get_running_loop().set_default_executor(DaemonThreads())
        if self.settings is not None:
            self.accounts = [
                AccountSubject(name, account, self.clock) for name, account in self.settings.accounts.items()
            ]
        try:
            yield self
        finally:
            await self.daemon.close()
            await self.ledger_server.close()
            for account in self.accounts:
                await account.close()


def ask_daemon(server: ServerSettings) -> Daemon:
    """Blocking. Whoever listens on the settings' port is asked for `info`."""
    host = "127.0.0.1" if server.host in EVERYWHERE else server.host
    token = server.own_token
    frame = {"op": "info"} if token is None else {"op": "info", "token": token}
    try:
        reply = dial.call(host, server.port, frame, REPLY_S, tls.own_context(server))
    except SettingsError:
        return Daemon(Line.UNTRUSTED, {})  # the check of the settings says it
    except NoDaemonError as error:
        return Daemon(_of(error.__cause__), {}, str(error))
    line = Line.ANSWERS if reply["ok"] else Line.REFUSES
    return Daemon(line, reply if reply["ok"] else {}, "" if reply["ok"] else str(reply.get("message", "")))


def _of(cause: BaseException | None) -> Line:
    if isinstance(cause, TimeoutError):
        return Line.HANGS
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Line.UNTRUSTED
    if isinstance(cause, OSError) and not isinstance(cause, ConnectionResetError | BrokenPipeError):
        return Line.SILENT
    return Line.FOREIGN


def user_name(uid: int) -> str:
    """`broadcastd`, or the number of a user without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
