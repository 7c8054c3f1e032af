"""Customer-service messages: `POST /cgi-bin/message/custom/send` (docs/wechat-api.md, section 1).

No message id and no idempotency key: what was asked and not answered may have arrived.
"""

from datetime import datetime

import orjson

from broadcastd.channels.wechat import WechatApi, WechatChannel, WechatMessage
from broadcastd.model import Request
from broadcastd.ports import Message, Rendered
from broadcastd.settings import AccountSettings
from broadcastd.texts import fill, placeholder_values, without_controls


class CustomChannel(WechatChannel):
    """Implements `Channel`."""

    name = "custom"
    path = "/cgi-bin/message/custom/send"

    def __init__(self, api: WechatApi, account: AccountSettings) -> None:
        super().__init__(api, account)
        self._settings = account.custom

    def render(self, request: Request, now: datetime) -> Rendered:
        """See `Channel`. The rendered message is the text itself, line breaks and all."""
        filled = fill(self._settings.text, placeholder_values(request, now, self._timezone))
        text = without_controls(filled)
        size_bytes = len(text.encode())
        if size_bytes > self._settings.max_text_bytes:
            raise ValueError(
                f"the text is {size_bytes} bytes of UTF-8 once rendered;"
                f" at most {self._settings.max_text_bytes} are allowed"
            )
        return Rendered(text, () if text == filled else ("custom text: control characters removed",))

    def message(self, rendered: str) -> Message:
        """See `Channel`."""
        # Raw UTF-8: WeChat shows \\uXXXX escapes to the user as they are.
        return WechatMessage(orjson.dumps({"msgtype": "text", "text": {"content": rendered}}))
