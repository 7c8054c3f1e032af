"""The access token from WeChat itself: `POST /cgi-bin/stable_token` (docs/wechat-api.md, section 5).

It is asked for ahead of the old one's end, so that no send waits for it; the platform lets both serve for
5 minutes.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import orjson
import structlog
from pydantic import SecretStr

from broadcastd import retry
from broadcastd.channels.wechat import WechatApi
from broadcastd.clock import Clock
from broadcastd.errcodes import Action, in_words, meaning_of
from broadcastd.outcomes import Answer
from broadcastd.retry import Backoff
from broadcastd.settings import AccountSettings
from broadcastd.shared_token import NoTokenError, SharedToken

log = structlog.get_logger()

PATH = "/cgi-bin/stable_token"
RENEWED_AHEAD_S = 300.0
"""The platform renews a stable token in its last 5 minutes, not before (section 5)."""
ASKED_AHEAD = 15
"""So often is it asked in that time, every 20 s, until the new one is there."""
LOOK_S = 15.0
"""A token that a send has fetched meanwhile may end earlier than the one that is slept for."""

TRIAL_S = 5.0
"""A token that the platform has just stood by is kept for so long, whatever is said of it.

Answers to calls that were under way say nothing new; and a fault of WeChat's that lasts seconds must not cost
one of the few forced refreshes.
"""
CONFIRMED_FOR_S = 3600.0
"""When it is refused later than this after the platform stood by it, the platform is asked anew."""
FORCED_PAUSES = Backoff(first_s=60, longest_s=7200, jitter=0)
"""After the n-th forced refresh of 24 hours. Allowed are 20 a day, 30 s apart (section 5); this makes 18."""
DAY_S = 86_400.0

BY_OPERATOR = Backoff(first_s=60, longest_s=600, jitter=0)
_GROWING = Backoff(first_s=5, longest_s=300, jitter=0)
_CREDENTIALS = " (check app_id and app_secret)"
_BY_CODE: tuple[tuple[tuple[int, ...], Backoff, str], ...] = (
    ((-1,), retry.TOKEN, ""),
    ((40001,), BY_OPERATOR, " (said of this call: the app_secret is wrong)"),
    ((40002, 40013, 40125, 41002, 41004), BY_OPERATOR, _CREDENTIALS),
    ((40164, 61004, 45035), BY_OPERATOR, " (put {ip} on the IP whitelist in WeChat's console)"),
    ((40243,), BY_OPERATOR, " (the app_secret is frozen: unfreeze it in WeChat's console)"),
    ((89501, 89502, 89503, 89504, 89505), BY_OPERATOR,
     " (the administrator must confirm this server's IP)"),
    ((89507,), Backoff(3600, 3600, 0), " (the administrator refused this server's IP: again in 1 h)"),
    ((89506,), Backoff(86_400, 86_400, 0), " (the administrator refused this server's IP: again in 24 h)"),
    ((45009,), Backoff(60, 3600, 0), ""),
    ((45011,), Backoff(60, 60, 0), ""),
)  # fmt: skip
_REFUSALS: Mapping[int, tuple[Backoff, str]] = {
    code: (pauses, hint) for codes, pauses, hint in _BY_CODE for code in codes
}
_IP = re.compile(r"invalid ip ([0-9a-fA-F.:]{2,45})")


@dataclass(frozen=True, slots=True)
class Granted:
    """What stable_token answered."""

    token: str
    expires_in_s: int


class ApiTokenSource(SharedToken):
    """Implements `TokenSource`. `keep` must be running for a token to be there before it is needed.

    How often a refresh was forced is known in memory only: after a restart counting begins anew. WeChat
    then answers a force too many with the token that it refused, which is told as such.
    """

    def __init__(self, api: WechatApi, settings: AccountSettings, account: str, clock: Clock) -> None:
        super().__init__(account, clock)
        self._api = api
        self._app_id = settings.app_id
        self._app_secret = settings.app_secret or SecretStr("")  # the settings let none be missing
        self._planned_for: str | None = None
        self._renew_at_s = -inf
        self._again_s = 0.0
        self._confirmed: str | None = None
        self._confirmed_at_s = -inf
        self._forced_at_s: list[float] = []

    async def keep(self) -> None:
        """See `TokenSource`."""
        while True:
            await self._renew(self._due)
            left_s = max(self._renew_at_s, self._not_before_s) - self._clock.monotonic_s()
            await self._clock.sleep(min(LOOK_S, max(0.0, left_s)))

    def discard(self, token: str) -> None:
        """See `TokenSource`."""
        on_trial = self._clock.monotonic_s() - self._confirmed_at_s < TRIAL_S
        if not (on_trial and token == self._confirmed):
            super().discard(token)

    def _due(self) -> bool:
        return self._clock.monotonic_s() >= self._renew_at_s

    async def _found(self) -> str:
        """See `SharedToken`."""
        granted = await self._ask(force=False)
        if self._doubted(granted.token):
            granted = await self._instead_of(granted)
        self._plan(granted)
        return granted.token

    def _plan(self, granted: Granted) -> None:
        """When to ask next. A token that is still the same is asked about again soon."""
        now_s = self._clock.monotonic_s()
        if granted.token == self._planned_for:
            self._renew_at_s = max(self._renew_at_s, now_s + self._again_s)
            return
        ahead_s = min(RENEWED_AHEAD_S, granted.expires_in_s / 2)
        self._planned_for = granted.token
        self._renew_at_s = now_s + granted.expires_in_s - ahead_s
        self._again_s = ahead_s / ASKED_AHEAD
        log.info("token_fetched", account=self._account, expires_in_s=granted.expires_in_s)

    async def _instead_of(self, refused: Granted) -> Granted:
        """The platform still gives the token that WeChat refused: which of them is right?

        First it is tried once more. When it is refused again, a refresh is forced, which kills it for
        whoever else uses it; where that may not be yet, it is waited for, then tried again.
        """
        now_s = self._clock.monotonic_s()
        if self._confirmed != refused.token or now_s - self._confirmed_at_s > CONFIRMED_FOR_S:
            self._confirmed, self._confirmed_at_s = refused.token, now_s
            return refused
        self._confirmed = None
        wait_s = self._may_force_in_s(now_s)
        if wait_s > 0:
            raise NoTokenError(
                "WeChat refuses the access token that it gives out itself;"
                f" a new one can be forced in {wait_s:.0f} s",
                _GROWING,
            )
        self._forced_at_s.append(now_s)
        log.warning("token_forced", account=self._account, forced_today=len(self._forced_at_s))
        forced = await self._ask(force=True)
        if forced.token == refused.token:
            raise NoTokenError(
                "WeChat refuses the access token that it gives out itself, and gives no other"
                " (20 forced refreshes a day are allowed)",
                _GROWING,
            )
        return forced

    def _may_force_in_s(self, now_s: float) -> float:
        self._forced_at_s = [at_s for at_s in self._forced_at_s if now_s - at_s < DAY_S]
        if not self._forced_at_s:
            return 0.0
        return self._forced_at_s[-1] + FORCED_PAUSES.delay_s(len(self._forced_at_s)) - now_s

    async def _ask(self, *, force: bool) -> Granted:
        return await ask_for_token(self._api, self._app_id, self._app_secret, force=force)


async def ask_for_token(api: WechatApi, app_id: str, secret: SecretStr, *, force: bool = False) -> Granted:
    """One call. Without `force`, WeChat gives the token that is in use. Raises NoTokenError."""
    asked = {
        "grant_type": "client_credential",
        "appid": app_id,
        "secret": secret.get_secret_value(),
        "force_refresh": force,
    }
    raw = await api.ask(PATH, orjson.dumps(asked))
    if isinstance(raw, Answer):
        raise NoTokenError(f"WeChat gives no access token: {raw.refused or raw.unanswered}")
    return _read(raw)


def _read(raw: bytes) -> Granted:
    """Nothing of the answer itself is repeated, but what is known to be an errcode or an IP."""
    try:
        reply: dict[str, Any] = orjson.loads(raw)
        # A success has none.
        errcode = int(reply.get("errcode") or 0)
        if errcode != 0:
            raise _refusal(errcode, str(reply.get("errmsg")))
        token, expires_in_s = reply["access_token"], int(reply["expires_in"])
        if token.isascii() and token.isprintable() and token and 0 < expires_in_s < 2**31:
            return Granted(token, expires_in_s)
        garbage = "a token that cannot be one"
    except (OverflowError, ValueError, TypeError, KeyError, AttributeError):
        garbage = "an answer that is no WeChat answer" if raw else "an empty answer"
    raise NoTokenError(f"WeChat gives no access token: {garbage}")


def _refusal(errcode: int, errmsg: str) -> NoTokenError:
    pauses, hint = _REFUSALS.get(errcode, (_GROWING, ""))
    hint = hint.format(ip=ip_in(errmsg))
    # 40001 of this call is about the secret, not about a token.
    needs_operator = errcode == 40001 or meaning_of(errcode).action is Action.HOLD_ACCOUNT
    words = f"WeChat gives no access token: {in_words(errcode)}{hint}"
    return NoTokenError(words, pauses, needs_operator=needs_operator)


def ip_in(errmsg: str) -> str:
    """As what WeChat sees this server: `invalid ip 1.2.3.4 ipv6 …, not in whitelist`."""
    found = _IP.search(errmsg)
    try:
        return str(ipaddress.ip_address(found[1])) if found else "this server's IP"
    except ValueError:
        return "this server's IP"
