"""Template messages: `POST /cgi-bin/message/template/send` (docs/wechat-api.md, section 2).

`client_msg_id` lets WeChat itself drop a repeat within 10 minutes.
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

PATH = "/cgi-bin/message/template/send"


class TemplateChannel:
    """Implements `Channel`."""

    name = "template"
    takes_data = True

    def __init__(self, api: WechatApi, settings: AccountSettings) -> None:
        self._endpoint = api.endpoint(PATH)
        self._settings = settings.template
        self._timezone = ZoneInfo(settings.timezone)

    def render(self, request: Request, now: datetime) -> str:
        """See `Channel`. The rendered message is the JSON of everything but `touser` and `client_msg_id`."""
        settings = self._settings
        if request.template is not None and request.template != settings.template_id:
            raise ValueError(f"unknown template {request.template!r}; accepted: {settings.template_id!r}")
        values = placeholder_values(request, now, self._timezone)
        data = {keyword: fill(text, values) for keyword, text in settings.data.items()}
        data.update(request.extra)
        rendered: dict[str, object] = {"template_id": settings.template_id}
        if settings.url:
            rendered["url"] = settings.url
        rendered["data"] = {keyword: {"value": value} for keyword, value in data.items()}
        return orjson.dumps(rendered).decode()

    def message(self, rendered: str) -> Message:
        """See `Channel`."""
        return TemplateMessage(rendered)

    async def attempt(self, body: bytes, token: str, may_ask: Callable[[], bool]) -> Answer | None:
        """See `Channel`."""
        return await self._endpoint.post(body, token, may_ask)


class TemplateMessage:
    """Implements `Message`: the JSON around the recipient is made once."""

    def __init__(self, rendered: str) -> None:
        self._tail = b"," + rendered.encode()[1:]

    def body(self, openid: str, message_id: str) -> bytes:
        """See `Message`."""
        head = b'{"touser":' + orjson.dumps(openid) + b',"client_msg_id":'
        return head + orjson.dumps(message_id) + self._tail
