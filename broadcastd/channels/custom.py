"""Customer-service messages: `POST /cgi-bin/message/custom/send` (docs/wechat-api.md, section 1).

No message id and no idempotency key: what was asked and not answered may have arrived.
"""

from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import orjson

from broadcastd.channels.wechat import WechatApi
from broadcastd.model import Request
from broadcastd.outcomes import Answer
from broadcastd.ports import Message
from broadcastd.settings import AccountSettings
from broadcastd.texts import fill, placeholder_values

PATH = "/cgi-bin/message/custom/send"


class CustomChannel:
    """Implements `Channel`."""

    name = "custom"
    takes_data = False

    def __init__(self, api: WechatApi, settings: AccountSettings) -> None:
        self._endpoint = api.endpoint(PATH)
        self._settings = settings.custom
        self._timezone = ZoneInfo(settings.timezone)

    def render(self, request: Request, now: datetime) -> str:
        """See `Channel`. The rendered message is the text itself."""
        text = fill(self._settings.text, placeholder_values(request, now, self._timezone))
        size_bytes = len(text.encode())
        if size_bytes > self._settings.max_text_bytes:
            raise ValueError(
                f"the text is {size_bytes} bytes of UTF-8 once rendered;"
                f" at most {self._settings.max_text_bytes} are allowed"
            )
        return text

    def message(self, rendered: str) -> Message:
        """See `Channel`."""
        return CustomMessage(rendered)

    async def attempt(self, body: bytes, token: str, may_ask: Callable[[], bool]) -> Answer | None:
        """See `Channel`."""
        return await self._endpoint.post(body, token, may_ask)


class CustomMessage:
    """Implements `Message`: the JSON around the openid is made once."""

    def __init__(self, text: str) -> None:
        # Raw UTF-8: WeChat shows \\uXXXX escapes to the user as they are.
        self._tail = b',"msgtype":"text","text":' + orjson.dumps({"content": text}) + b"}"

    def body(self, openid: str, message_id: str) -> bytes:
        """See `Message`. This channel has no message id."""
        del message_id
        return b'{"touser":' + orjson.dumps(openid) + self._tail
