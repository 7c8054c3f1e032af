"""What the channels have in common whose messages are a template with keywords filled in."""

from collections.abc import Mapping
from datetime import datetime

import orjson

from broadcastd.channels.wechat import WechatApi, WechatChannel
from broadcastd.keywords import fitted
from broadcastd.model import Request
from broadcastd.ports import Rendered
from broadcastd.settings import AccountSettings, KeywordSettings
from broadcastd.texts import fill, placeholder_values

BODY_FIELDS = {"template_id", "url", "page", "miniprogram", "miniprogram_state", "lang"}
"""The settings that are fields of the request's body, by WeChat's own names; sent only where they are set."""


class KeywordChannel(WechatChannel):
    """The part of `Channel` that renders keywords: `template` and `subscribe` add their call."""

    def __init__(
        self,
        api: WechatApi,
        account: AccountSettings,
        default: KeywordSettings,
        named: Mapping[str, KeywordSettings],
    ) -> None:
        super().__init__(api, account)
        self._default = default
        # A name wins over an id; an id that several have means the first of them, the default one before all.
        by_id = {one.template_id: one for one in reversed([default, *named.values()])}
        self._templates: Mapping[str, KeywordSettings] = {**by_id, **named}
        self.templates = tuple(dict.fromkeys([default.template_id, *named, *by_id]))

    def render(self, request: Request, now: datetime) -> Rendered:
        """See `Channel`. The rendered message is the JSON of everything but the recipient."""
        chosen = self._default
        if request.template is not None:
            chosen = self._templates.get(request.template, self._default)
        values = placeholder_values(request, now, self._timezone)
        data = {keyword: fill(text, values) for keyword, text in chosen.data.items()}
        if request.template is None or request.template in self._templates:
            data.update(request.extra)
        warnings: list[str] = []
        filled = {keyword: self._value(keyword, value, chosen, warnings) for keyword, value in data.items()}
        body = chosen.model_dump(include=BODY_FIELDS, exclude_defaults=True)
        body["data"] = {keyword: {"value": value} for keyword, value in filled.items()}
        return Rendered(orjson.dumps(body).decode(), tuple(warnings))

    def _value(self, keyword: str, value: str, chosen: KeywordSettings, warnings: list[str]) -> str:
        """What is sent of a value; adds to the warnings. Raises ValueError when it cannot be sent."""
        where = f"{self.name} data {keyword}"
        try:
            sent, changes = fitted(keyword, value)
        except ValueError as error:
            raise ValueError(f"{self.name} data {error}") from None
        accepted = chosen.approved.get(keyword)
        if accepted is not None and sent not in accepted:
            raise ValueError(f"{where} is {sent[:40]!r}; accepted (approved): {', '.join(accepted)}")
        warnings += [f"{where}: {change}" for change in (*changes, self._hidden(keyword, sent)) if change]
        return sent

    def _hidden(self, keyword: str, value: str) -> str:
        """What WeChat does not show of this value, in words; else empty."""
        del keyword, value
        return ""
