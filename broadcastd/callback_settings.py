"""The settings of the callbacks: the listener's, and each account's."""

import re
import unicodedata
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from broadcastd.section import Seconds, Section, check_port

PREFIX = "/wechat/"
"""The path of an account's callback is this and its name."""


class Mode(StrEnum):
    """How WeChat's console is set for pushes."""

    PLAIN = "plain"
    COMPATIBLE = "compatible"
    SAFE = "safe"


def _statement(sql: str) -> str:
    sql = sql.strip().rstrip(";").strip()
    if sql and not re.search(r"(?<![:\w]):openid\b", sql):
        raise ValueError("must be one statement that names :openid (or empty: nothing is run)")
    return sql


def plain_word(text: str) -> str:
    """What is compared of a follower's text: full-width digits and letters count as the plain ones."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def _words(words: tuple[str, ...]) -> tuple[str, ...]:
    plain = tuple(plain_word(word) for word in words)
    if "" in plain:
        raise ValueError("an empty word would be every empty message")
    return plain


Words = Annotated[tuple[str, ...], AfterValidator(_words)]
Statement = Annotated[str, AfterValidator(_statement)]


class AccountCallbackSettings(Section):
    """What WeChat pushes to this account."""

    token: SecretStr
    aes_key: SecretStr | None = None
    previous_aes_key: SecretStr | None = None
    mode: Mode | None = None
    replay_window_s: Seconds = 600
    opt_out_words: Words = ("0",)
    opt_in_words: Words = ("1",)
    opt_out_reply: str = Field("您已取消接收信息,回復1重新接收信息", max_length=600)
    opt_in_reply: str = Field("您已重新接收信息,回復0取消接收信息", max_length=600)
    opt_out_sql: Statement = "UPDATE tp_receiver SET receive_status = 0 WHERE openid = :openid"
    opt_in_sql: Statement = "UPDATE tp_receiver SET receive_status = 1 WHERE openid = :openid"
    subscribe_sql: Statement = ""
    unsubscribe_sql: Statement = "UPDATE tp_receiver SET receive_status = 0 WHERE openid = :openid"
    forward_to: SecretStr | None = None
    forward_timeout_s: float = Field(4, gt=0, le=4)

    @field_validator("token")
    @classmethod
    def _token(cls, token: SecretStr) -> SecretStr:
        # What WeChat's console takes.
        if not re.fullmatch(r"[A-Za-z0-9]{3,32}", token.get_secret_value()):
            raise ValueError("accepted: 3 to 32 letters and digits, the same as in WeChat's console")
        return token

    @field_validator("aes_key", "previous_aes_key")
    @classmethod
    def _aes_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not re.fullmatch(r"[A-Za-z0-9+/]{43}", key.get_secret_value()):
            raise ValueError("accepted: the EncodingAESKey of WeChat's console, 43 letters and digits")
        return key

    @field_validator("forward_to")
    @classmethod
    def _forward_to(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
                raise ValueError("accepted: https://HOST/PATH or http://HOST:PORT/PATH")
            check_port(url.get_secret_value())
        return url

    @model_validator(mode="after")
    def _complete(self) -> "AccountCallbackSettings":
        if self.aes_key is None and (self.previous_aes_key is not None or self.secure_mode is not Mode.PLAIN):
            raise ValueError("aes_key is missing: mode compatible or safe, and previous_aes_key, need it")
        both = set(self.opt_out_words) & set(self.opt_in_words)
        if both:
            raise ValueError(f"{sorted(both)} cannot both opt out and opt in (opt_out_words, opt_in_words)")
        return self

    @property
    def secure_mode(self) -> Mode:
        """The mode that is in force: with a key, and no word of it, the safe one."""
        return self.mode or (Mode.PLAIN if self.aes_key is None else Mode.SAFE)


class CallbackSettings(Section):
    """The listener of all callbacks."""

    host: str = "127.0.0.1"
    port: int = Field(9092, ge=0, le=65535)
    max_push_bytes: int = Field(65536, ge=1024, le=16 * 1024 * 1024)
    max_connections: int = Field(2000, ge=1)
    idle_timeout_s: Seconds = 20
