"""Subscription messages: `POST /cgi-bin/message/subscribe/bizsend` (docs/wechat-api.md, section 3).

One consent of a follower is one message; without any, WeChat answers 43101. No idempotency key: what was
asked and not answered may have arrived.
"""

from broadcastd.channels.keyword_channel import KeywordChannel
from broadcastd.channels.wechat import WechatApi, WechatMessage
from broadcastd.ports import Message
from broadcastd.settings import AccountSettings


class SubscribeChannel(KeywordChannel):
    """Implements `Channel`."""

    name = "subscribe"
    path = "/cgi-bin/message/subscribe/bizsend"

    def __init__(self, api: WechatApi, account: AccountSettings) -> None:
        super().__init__(api, account, account.subscribe, account.subscriptions)

    def message(self, rendered: str) -> Message:
        """See `Channel`."""
        return WechatMessage(rendered.encode())
