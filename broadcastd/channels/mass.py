"""Mass messages by list: `POST /cgi-bin/message/mass/send` (docs/wechat-api.md, section 4).

From 2 to 10,000 openids a call. `clientmsgid` lets WeChat itself drop a repeat within 24 hours.
"""

from collections.abc import Sequence

import orjson

from broadcastd.channels.text_channel import TextChannel, text_body
from broadcastd.channels.wechat import WechatApi
from broadcastd.ports import Message
from broadcastd.settings import AccountSettings


class MassChannel(TextChannel):
    """Implements `Channel`."""

    name = "mass"
    path = "/cgi-bin/message/mass/send"

    def __init__(self, api: WechatApi, account: AccountSettings) -> None:
        super().__init__(api, account, account.mass)

    def message(self, rendered: str) -> Message:
        """See `Channel`."""
        return MassMessage(rendered)


class MassMessage:
    """Implements `ListMessage`."""

    names_itself = True

    def __init__(self, rendered: str) -> None:
        self._tail = b"," + text_body(rendered)[1:]

    def body(self, openid: str, message_id: str) -> bytes:
        """See `Message`. WeChat takes no list of one."""
        return self.list_body([openid], message_id)

    def list_body(self, openids: Sequence[str], message_id: str) -> bytes:
        """See `ListMessage`. The same arguments make the same bytes, also after a restart."""
        head = b'{"touser":' + orjson.dumps(list(openids)) + b',"clientmsgid":'
        return head + orjson.dumps(message_id) + self._tail
