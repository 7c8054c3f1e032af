"""The list of an account's followers: `GET /cgi-bin/user/get` (docs/wechat-api.md, section 7)."""

from typing import Any

import orjson

from broadcastd.channels.wechat import WechatApi
from broadcastd.outcomes import Answer
from broadcastd.sync_ports import UserPage

PATH = "/cgi-bin/user/get"
MAX_PAGE_BYTES = 4 * 1024 * 1024
"""10,000 openids of 28 characters are 310 KB; of 128 characters, 1.3 MB."""


class WechatUserList:
    """Implements `UserList`."""

    def __init__(self, api: WechatApi) -> None:
        self._api = api

    async def page(self, after: str, token: str) -> UserPage | Answer:
        """See `UserList`."""
        raw = await self._api.get(PATH, {"access_token": token, "next_openid": after}, MAX_PAGE_BYTES)
        return raw if isinstance(raw, Answer) else _read(raw)


def _read(raw: bytes) -> UserPage | Answer:
    """A success has no errcode. A list that ends may have no data."""
    try:
        reply: dict[str, Any] = orjson.loads(raw)
        errcode = int(reply.get("errcode") or 0)
        if errcode != 0:
            return Answer(errcode=errcode, errmsg=str(reply.get("errmsg", "")))
        # What is neither here nor there must not pass for the end of the list: the others would be gone.
        total = int(reply["total"])
        openids = (reply.get("data") or {}).get("openid") or []
        if int(reply.get("count") or 0) != len(openids):
            return Answer(unanswered="a page with another number of followers than it says")
        return UserPage([str(one) for one in openids], str(reply.get("next_openid") or ""), total)
    except (OverflowError, ValueError, TypeError, KeyError, AttributeError):
        return Answer(unanswered="an answer that is no WeChat answer" if raw else "an empty answer")
