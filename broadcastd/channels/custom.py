"""Customer-service messages: `POST /cgi-bin/message/custom/send` (docs/wechat-api.md, section 1).

No message id and no idempotency key: what was asked and not answered may have arrived.
"""

from broadcastd.channels.text_channel import TextChannel, text_body
from broadcastd.channels.wechat import WechatApi, WechatMessage
from broadcastd.ports import Message
from broadcastd.settings import AccountSettings


class CustomChannel(TextChannel):
    """Implements `Channel`."""

    name = "custom"
    path = "/cgi-bin/message/custom/send"

    def __init__(self, api: WechatApi, account: AccountSettings) -> None:
        super().__init__(api, account, account.custom)

    def message(self, rendered: str) -> Message:
        """See `Channel`."""
        return WechatMessage(text_body(rendered))
