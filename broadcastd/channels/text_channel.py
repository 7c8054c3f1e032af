"""What the channels have in common whose message is a text of the account's own."""

from collections.abc import Collection
from datetime import datetime

import orjson

from broadcastd.channels.wechat import WechatApi, WechatChannel
from broadcastd.model import Request
from broadcastd.ports import Rendered
from broadcastd.settings import AccountSettings, CustomSettings, MassSettings
from broadcastd.texts import fill, placeholder_values, without_controls


class TextChannel(WechatChannel):
    """The part of `Channel` that renders a text: `custom` and `mass` add their call."""

    name: str
    templates: Collection[str] = ()

    def __init__(
        self, api: WechatApi, account: AccountSettings, settings: CustomSettings | MassSettings
    ) -> None:
        super().__init__(api, account)
        self._settings = settings

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
        removed = f"{self.name} text: control characters removed"
        return Rendered(text, () if text == filled else (removed,))


def text_body(rendered: str) -> bytes:
    """The fields of a text message, without whom it is for."""
    # Raw UTF-8: WeChat shows \\uXXXX escapes to the user as they are.
    return orjson.dumps({"msgtype": "text", "text": {"content": rendered}})
