"""The settings: frozen, typed, checked at start. `settings_file` reads them."""

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    field_serializer,
    field_validator,
    model_validator,
)

from broadcastd import database_tls
from broadcastd.alert_settings import AlertSettings
from broadcastd.background_settings import BackgroundSettings
from broadcastd.callback_settings import AccountCallbackSettings, CallbackSettings
from broadcastd.finished_settings import FinishedSettings
from broadcastd.http_settings import HttpPortSettings
from broadcastd.keywords import fitted
from broadcastd.model import OnUnknown
from broadcastd.monitor_settings import MonitorSettings
from broadcastd.section import Seconds, Section, check_port
from broadcastd.server_settings import LOOPBACK, ServerSettings
from broadcastd.texts import check_text, fill, has_placeholder

DEFAULT_QUERY = (
    "SELECT id, openid FROM tp_receiver WHERE (expire_time > :now OR send_status = 1) AND receive_status = 1"
)
DEFAULT_TOKEN_QUERY = "SELECT accesstoken FROM tp_accesstoken ORDER BY id LIMIT 1"  # noqa: S105
DEFAULT_TEXT = "{content} 點擊下方“信息查詢”查看更多求購信息。回復0取消接收信息,回復1重新接收信息"
IDENTITY_OFF = "off"
"""`ledger.identity_dir`: no file tells this ledger from its copies."""

Text = Annotated[str, AfterValidator(check_text)]


def _known_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError("accepted: a name like Asia/Shanghai") from error
    return name


def _masked(found: re.Match[str]) -> str:
    return f"{found[1]}***" if found[1] else "//***@"


class PoolSettings(Section):
    """The tasks."""

    tasks: int = Field(60, ge=1, le=1000)
    slice_size: int = Field(500, ge=1, le=500)
    sends_per_task: int = Field(16, ge=1, le=256)


class LedgerSettings(Section):
    """The durable record."""

    url: SecretStr = SecretStr("sqlite:///broadcastd.db")
    on_unknown: OnUnknown = OnUnknown.RESEND
    lease_s: float = Field(60, ge=5)
    reserve_mb: int = Field(64, ge=0)
    keep_days: float = Field(30, gt=0)
    hold_after_down_s: float = Field(86400, ge=0)
    identity_dir: str = ""

    @field_validator("url")
    @classmethod
    def _supported(cls, url: SecretStr) -> SecretStr:
        there = url.get_secret_value()
        check_port(there)
        database_tls.check(there)
        is_file = there.startswith("sqlite:///") and there not in ("sqlite:///", "sqlite:///:memory:")
        if not is_file and not re.fullmatch(r"mysql://([^/]*@)?[^/@]+/[^/?]+(\?.*)?", there):
            raise ValueError(
                "accepted: sqlite:///FILE (relative to the settings file), sqlite:////ABSOLUTE/FILE or"
                " mysql://user:password@host:3306/database"
            )
        return url

    @field_serializer("url", when_used="json")
    def _shown(self, url: SecretStr) -> str:
        """What `config show` shows."""
        there = url.get_secret_value()
        return re.sub(r"//.*@|(passw(?:or)?d=)[^&]*", _masked, there) if there.startswith("mysql:") else there


class AudienceSettings(Section):
    """Where the recipients are."""

    url: SecretStr
    query: str = DEFAULT_QUERY
    now: Literal["auto", "datetime", "unix"] = "auto"
    max_gone_share: float = Field(0.2, ge=0, le=1)
    pool_size: int = Field(10, ge=1, le=200)
    connect_timeout_s: Seconds = 10
    query_timeout_s: Seconds = 60
    sync_calls_a_day: int = Field(500, ge=1)

    @field_validator("url")
    @classmethod
    def _supported(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("mysql://", "sqlite:///")):
            raise ValueError("accepted: mysql://user:password@host:3306/database or sqlite:///FILE")
        check_port(url.get_secret_value())
        database_tls.check(url.get_secret_value())
        return url

    @field_validator("query")
    @classmethod
    def _one_select(cls, query: str) -> str:
        query = query.strip().rstrip(";").strip()
        if not query.lower().startswith(("select", "with")):
            raise ValueError("must be one SELECT that yields the columns id and openid")
        return query


class TokenSettings(Section):
    """Where the access token comes from."""

    source: Literal["table", "api"] = "table"
    query: str = DEFAULT_TOKEN_QUERY


class ChannelSettings(Section):
    """What every channel has."""

    rate_per_s: float | None = Field(None, gt=0)
    max_in_flight: int | None = Field(None, ge=1)


class CustomSettings(ChannelSettings):
    """The customer-service message."""

    text: Text = DEFAULT_TEXT
    max_text_bytes: int = Field(2048, ge=1)


class MiniprogramSettings(Section):
    """Where in a mini program a tap on the message leads."""

    appid: str = ""
    pagepath: str = ""

    @model_validator(mode="after")
    def _whole(self) -> "MiniprogramSettings":
        if self.pagepath and not self.appid:
            raise ValueError("pagepath is set, and appid is missing")
        return self


class KeywordSettings(Section):
    """A message whose text is a template's, with keywords filled in."""

    template_id: str = ""
    miniprogram: MiniprogramSettings = MiniprogramSettings()
    data: dict[str, Text] = Field(default_factory=dict)
    approved: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("data")
    @classmethod
    def _can_be_sent(cls, data: dict[str, str]) -> dict[str, str]:
        for keyword, text in data.items():
            if not has_placeholder(text):
                fitted(keyword, fill(text, {}))
        return data


class OneTemplate(KeywordSettings):
    """One template of template messages."""

    url: str = ""


class TemplateSettings(ChannelSettings, OneTemplate):
    """The template message, and its default template."""


class OneSubscription(KeywordSettings):
    """One template of subscription messages."""

    page: str = ""
    miniprogram_state: Literal["developer", "trial", "formal"] | None = None
    lang: Literal["zh_CN", "en_US", "zh_HK", "zh_TW"] | None = None


class SubscribeSettings(ChannelSettings, OneSubscription):
    """The subscription message, and its default template."""


class QuotaSettings(Section):
    """What WeChat allows a day."""

    forecast: bool = True
    refresh_s: Seconds = 300
    look_s: Seconds = 60
    resets_at: str = Field("00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    timezone: str = "Asia/Shanghai"

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, name: str) -> str:
        return _known_timezone(name)


class MassSettings(ChannelSettings):
    """The mass message."""

    text: Text = DEFAULT_TEXT
    max_text_bytes: int = Field(2048, ge=1)
    gather_s: Seconds = 600
    rate_per_s: float | None = Field(1, gt=0)


class HttpSettings(Section):
    """Calls of the WeChat API."""

    transport: Literal["aiohttp", "lean"] = "aiohttp"
    connect_timeout_s: Seconds = 10
    answer_timeout_s: Seconds = 30


class AccountSettings(Section):
    """One Official Account."""

    api_base: str = "https://api.weixin.qq.com"
    app_id: str = ""
    app_secret: SecretStr | None = None
    channels: tuple[str, ...] = ("custom", "template")
    window: Literal["on", "off"] = "on"
    timezone: str = "Asia/Shanghai"
    on_unknown: OnUnknown | None = None
    audience: AudienceSettings
    token: TokenSettings = TokenSettings()
    custom: CustomSettings = CustomSettings()
    template: TemplateSettings = TemplateSettings()
    templates: dict[str, OneTemplate] = Field(default_factory=dict)
    subscribe: SubscribeSettings = SubscribeSettings()
    subscriptions: dict[str, OneSubscription] = Field(default_factory=dict)
    quota: QuotaSettings = QuotaSettings()
    mass: MassSettings = MassSettings()
    http: HttpSettings = HttpSettings()
    callback: AccountCallbackSettings | None = None
    finished: FinishedSettings | None = None

    def channel(self, name: str) -> ChannelSettings:
        """The section of one of `channels`."""
        sections: dict[str, ChannelSettings] = {
            "custom": self.custom,
            "template": self.template,
            "subscribe": self.subscribe,
            "mass": self.mass,
        }
        return sections[name]

    @field_validator("api_base")
    @classmethod
    def _url(cls, url: str) -> str:
        if not url.startswith(("https://", "http://")):
            raise ValueError("accepted: https://HOST or http://HOST:PORT")
        return url.rstrip("/")

    @field_validator("channels")
    @classmethod
    def _channels(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        known = ("custom", "template", "subscribe", "mass")
        if not channels or len(set(channels)) != len(channels) or not set(channels) <= set(known):
            raise ValueError(
                f"accepted: one or more of {', '.join(known)}, each once, in the order to try them"
            )
        return channels

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, name: str) -> str:
        return _known_timezone(name)

    @model_validator(mode="after")
    def _may_ask_for_a_token(self) -> "AccountSettings":
        has_secret = self.app_secret is not None and self.app_secret.get_secret_value().strip()
        missing = [] if self.app_id.strip() else ["app_id"]
        missing += [] if has_secret else ["app_secret (or app_secret_file)"]
        if self.token.source == "api" and missing:
            raise ValueError(
                f'token.source = "api" needs {" and ".join(missing)}: WeChat gives the access token for them'
            )
        return self

    @model_validator(mode="after")
    def _complete(self) -> "AccountSettings":
        if "template" in self.channels and not self.template.template_id:
            raise ValueError(
                'template.template_id is missing: set it, or leave "template" out of channels'
                " (then nobody outside the 48 h window can be reached)"
            )
        if "subscribe" in self.channels and not self.subscribe.template_id:
            raise ValueError('subscribe.template_id is missing: set it, or leave "subscribe" out of channels')
        for section, named in (("templates", self.templates), ("subscriptions", self.subscriptions)):
            for name, one in named.items():
                if not one.template_id:
                    raise ValueError(f"{section}.{name}.template_id is missing")
        if self.callback is not None and self.callback.aes_key is not None and not self.app_id:
            raise ValueError(
                "app_id is missing: encrypted pushes (callback.aes_key) carry it and are checked"
            )
        return self


class LogSettings(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """The whole."""

    server: ServerSettings = ServerSettings()
    pool: PoolSettings = PoolSettings()
    ledger: LedgerSettings = LedgerSettings()
    callback: CallbackSettings = CallbackSettings()
    alerts: AlertSettings = AlertSettings()
    http: HttpPortSettings = HttpPortSettings()
    monitor: MonitorSettings = MonitorSettings()
    background: BackgroundSettings = BackgroundSettings()
    accounts: dict[str, AccountSettings] = Field(min_length=1)
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _http_guarded(self) -> "Settings":
        http = self.http
        if not http.enabled or http.host in LOOPBACK:
            return self
        missing = [] if self.server.is_guarded else ["server.token or server.tokens"]
        missing += [] if http.tls_cert else ["http.tls_cert and http.tls_key"]
        if missing:
            raise ValueError(
                f"http.host: listening on {http.host} (beyond loopback) needs {', and '.join(missing)}:"
                " without, anybody on the network could send to all your followers, or read the token"
            )
        return self
