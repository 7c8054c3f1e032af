"""Builds an audience sync from the settings, as `app` builds the daemon; it needs no daemon."""

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from broadcastd.audiences.engine import open_database
from broadcastd.audiences.followers_table import SqlFollowersTable
from broadcastd.channels.user_list import WechatUserList
from broadcastd.channels.wechat import WechatApi
from broadcastd.clock import Clock, SystemClock
from broadcastd.delivery.audience_sync import AudienceSync, SyncResult, SyncWatcher
from broadcastd.errors import TableUnfitError
from broadcastd.settings import AccountSettings
from broadcastd.sync_ports import Standing
from broadcastd.token_sources import TOKEN_SOURCES, AccountParts
from broadcastd.transports import open_transport

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """Which table of which account."""

    account: str
    settings: AccountSettings
    table: str


async def look(plan: SyncPlan) -> Standing:
    """What stands, without changing or asking WeChat anything."""
    async with contextlib.AsyncExitStack() as stack:
        return await _table(plan, stack, writable=False).standing(SystemClock().now())


async def make(plan: SyncPlan) -> None:
    """Make the tables that are missing."""
    async with contextlib.AsyncExitStack() as stack:
        await _table(plan, stack, writable=True).make()


async def sync(plan: SyncPlan, watcher: SyncWatcher, *, anew: bool, force: bool) -> SyncResult:
    """Bring the table up to WeChat's list; see `AudienceSync.run`."""
    async with _built(plan, watcher, SystemClock()) as one:
        return await one.run(_this_process(), _has_ended, anew=anew, force=force)


@contextlib.asynccontextmanager
async def _built(plan: SyncPlan, watcher: SyncWatcher, clock: Clock) -> AsyncIterator[AudienceSync]:
    settings = plan.settings
    async with contextlib.AsyncExitStack() as stack:
        table = _table(plan, stack, writable=True)
        standing = await table.standing(clock.now())
        if standing.missing:
            raise TableUnfitError(
                f"the site's database has no table {' and no table '.join(standing.missing)}; --create makes"
                " what is missing"
            )
        database = open_database(settings.audience)
        stack.push_async_callback(database.close)
        api = WechatApi(settings.api_base, open_transport(settings.http, 1))
        stack.push_async_callback(api.close)
        # Nobody keeps it fresh here: it is fetched when it is needed, and again when WeChat calls it stale.
        tokens = TOKEN_SOURCES[settings.token.source](
            AccountParts(plan.account, settings, database, api, clock)
        )
        calls_a_day = settings.audience.sync_calls_a_day
        yield AudienceSync(table, WechatUserList(api), tokens, clock, watcher, calls_a_day)


def _table(plan: SyncPlan, stack: contextlib.AsyncExitStack, *, writable: bool) -> SqlFollowersTable:
    database = open_database(plan.settings.audience, writable=writable)
    stack.push_async_callback(database.close)
    return SqlFollowersTable(database, plan.table, plan.account, ZoneInfo(plan.settings.timezone))


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}, {_process_space()}"


def _process_space() -> str:
    """Where a process number means the same process: within one start of one machine, or container."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _has_ended(holder: str) -> bool:
    """Whether the process of this name is certainly no more: so after a kill nobody waits for its claim."""
    process, _, rest = holder.removeprefix("process ").partition(" on ")
    here = _process_space()
    if not here or not rest.endswith(f", {here}") or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
