"""Template messages: `POST /cgi-bin/message/template/send` (docs/wechat-api.md, section 2).

`client_msg_id` lets WeChat itself drop a repeat within 10 minutes.
"""

import orjson

from broadcastd.channels.keyword_channel import KeywordChannel
from broadcastd.channels.wechat import WechatApi, WechatMessage
from broadcastd.keywords import hidden
from broadcastd.ports import Message
from broadcastd.settings import AccountSettings


class TemplateChannel(KeywordChannel):
    """Implements `Channel`."""

    name = "template"
    path = "/cgi-bin/message/template/send"

    def __init__(self, api: WechatApi, account: AccountSettings) -> None:
        super().__init__(api, account, account.template, account.templates)

    def _hidden(self, keyword: str, value: str) -> str:
        return hidden(keyword, value)

    def message(self, rendered: str) -> Message:
        """See `Channel`."""
        return TemplateMessage(rendered.encode())


class TemplateMessage(WechatMessage):
    """Implements `Message`, with its id."""

    names_itself = True

    def body(self, openid: str, message_id: str) -> bytes:
        """See `Message`."""
        head = b'{"touser":' + orjson.dumps(openid) + b',"client_msg_id":'
        return head + orjson.dumps(message_id) + self._tail
