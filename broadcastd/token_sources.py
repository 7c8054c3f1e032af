"""Implementations of the `TokenSource` port: one file and one row each, by `accounts.NAME.token.source`.

Apart from the sources themselves, since one lives with the site's database and one with the WeChat API.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from broadcastd.audiences.engine import Database
from broadcastd.audiences.token_table import TableTokenSource
from broadcastd.channels.token_api import ApiTokenSource
from broadcastd.channels.wechat import WechatApi
from broadcastd.clock import Clock
from broadcastd.ports import TokenSource
from broadcastd.settings import AccountSettings

LIVES_S = 7200.0
"""An access token of WeChat's (docs/wechat-api.md, section 5); a gateway in front of it may have others."""


@dataclass(frozen=True, slots=True)
class AccountParts:
    """What a source may need."""

    account: str
    settings: AccountSettings
    database: Database
    api: WechatApi
    clock: Clock


def _table(parts: AccountParts) -> TokenSource:
    own = urlsplit(parts.settings.api_base).hostname or ""
    lives_s = LIVES_S if own.endswith(".weixin.qq.com") else None
    return TableTokenSource(parts.database, parts.settings.token.query, parts.account, parts.clock, lives_s)


def _api(parts: AccountParts) -> TokenSource:
    return ApiTokenSource(parts.api, parts.settings, parts.account, parts.clock)


TOKEN_SOURCES: Mapping[str, Callable[[AccountParts], TokenSource]] = {"table": _table, "api": _api}
