"""What is left of the day's calls, and their reset (docs/wechat-api.md, section 5)."""

from typing import Any

import orjson
from pydantic import SecretStr

from broadcastd.channels.wechat import WechatApi
from broadcastd.model import Quota
from broadcastd.outcomes import Answer
from broadcastd.settings import AccountSettings

GET = "/cgi-bin/openapi/quota/get"
CLEAR = "/cgi-bin/clear_quota"
CLEAR_BY_SECRET = "/cgi-bin/clear_quota/v2"  # noqa: S105 - a path
MOST = 2**53
"""More than any limit: what every JSON library reads exactly."""


class WechatQuotas:
    """Implements `QuotaSource`."""

    def __init__(self, api: WechatApi, settings: AccountSettings) -> None:
        self._api = api
        self._app_id = settings.app_id.strip()
        self._secret = settings.app_secret or SecretStr("")
        self.has_app_id = bool(self._app_id)
        self.has_secret = self.has_app_id and bool(self._secret.get_secret_value().strip())

    async def get(self, path: str, token: str) -> Quota | Answer:
        """See `QuotaSource`."""
        raw = await self._api.ask(GET, orjson.dumps({"cgi_path": path}), token)
        return raw if isinstance(raw, Answer) else _quota(raw)

    async def clear(self, token: str | None) -> Answer | None:
        """See `QuotaSource`."""
        asked = {"appid": self._app_id}
        if token is None:
            asked["appsecret"] = self._secret.get_secret_value()
        path = CLEAR_BY_SECRET if token is None else CLEAR
        raw = await self._api.ask(path, orjson.dumps(asked), token)
        if isinstance(raw, Answer):
            return raw
        reply = _reply(raw)
        return reply if isinstance(reply, Answer) else None


def _quota(raw: bytes) -> Quota | Answer:
    reply = _reply(raw)
    if isinstance(reply, Answer):
        return reply
    try:
        quota, rate = reply["quota"], reply.get("rate_limit") or {}
        return Quota(
            _count(quota["daily_limit"]),
            _count(quota["used"]),
            _count(quota["remain"]),
            _count(rate["call_count"]) if "call_count" in rate else None,
            _count(rate["refresh_second"]) if "refresh_second" in rate else None,
        )
    except (OverflowError, ValueError, TypeError, KeyError, AttributeError):
        return Answer(unanswered="an answer without the figures of a quota")


def _reply(raw: bytes) -> dict[str, Any] | Answer:
    """The object of a success, which says errcode 0; else what it is."""
    try:
        reply: dict[str, Any] = orjson.loads(raw)
        errcode = int(reply["errcode"])
        if errcode == 0:
            return reply
        if abs(errcode) < 2**31:
            return Answer(errcode=errcode, errmsg=str(reply.get("errmsg", "")))
        return Answer(unanswered="an errcode that is none of WeChat's")
    except (OverflowError, ValueError, TypeError, KeyError, AttributeError):
        return Answer(unanswered="an answer that is no WeChat answer" if raw else "an empty answer")


def _count(value: Any) -> int:
    """A number as WeChat gives it, or in digits; never below 0: what is overdrawn leaves nothing."""
    count = max(0, int(value))
    if count > MOST:
        raise ValueError(value)
    return count
