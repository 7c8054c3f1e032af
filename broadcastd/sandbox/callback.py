"""Where and how events are pushed: settings, and the requests made of them. Pure but for random bytes."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from broadcastd.sandbox.crypto import Crypto, signature
from broadcastd.sandbox.events import Event, elements
from broadcastd.sandbox.replies import PassiveReply, read_reply


class Mode(StrEnum):
    """How a push is written."""

    PLAIN = "plain"
    COMPATIBLE = "compatible"  # plain and encrypted in one body
    SAFE = "safe"  # encrypted only


class CallbackSpec(BaseModel):
    """The callback of the account; an empty `url` is none.

    `timeout_s` and `tries`: 5 s and 3 in all (reference, section 6). `pause_s`: after a try that failed
    (not documented). `in_flight`: pushes at a time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str = Field("", pattern=r"^(https?://.+)?$")
    token: str = "sandbox"  # noqa: S105  # public
    aes_key: str = ""
    mode: Mode = Mode.PLAIN
    timeout_s: float = Field(5.0, gt=0)
    tries: int = Field(3, ge=1)
    pause_s: float = Field(0.0, ge=0)
    in_flight: int = Field(50, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.aes_key or self.mode is not Mode.PLAIN:
            Crypto(self.aes_key, "")
        return self


def callback_spec(given: Mapping[str, Any], before: CallbackSpec | None = None) -> CallbackSpec:
    """The settings, those that are not given as `before`; `ValueError` says in one line what is wrong."""
    try:
        return CallbackSpec(**{**(before.model_dump() if before else {}), **given})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"callback: {place}: {text}" if place else f"callback: {text}") from error


@dataclass(frozen=True, slots=True)
class Request:
    """One try of a push."""

    url: str
    body: bytes


class Callback:
    """What a request to the callback says, and what its answer means."""

    def __init__(self, spec: CallbackSpec, app_id: str) -> None:
        self.spec = spec
        self._crypto = None if spec.mode is Mode.PLAIN else Crypto(spec.aes_key, app_id)

    def request(self, event: Event, now: float) -> Request:
        """A push; timestamp, nonce and signatures are new at each try, the message is the same."""
        query = self._signed(now)
        if self._crypto is None:
            return Request(self._url(query), event.xml().encode())
        encrypted = self._crypto.encrypt(event.xml())
        query["encrypt_type"] = "aes"
        query["msg_signature"] = signature(self.spec.token, query["timestamp"], query["nonce"], encrypted)
        if self.spec.mode is Mode.COMPATIBLE:
            return Request(self._url(query), event.xml(encrypted).encode())
        body = elements({"ToUserName": event.user_name, "Encrypt": encrypted})
        return Request(self._url(query), f"<xml>{body}</xml>".encode())

    def verification(self, echostr: str, now: float) -> str:
        """The URL of the GET by which an account is joined to its callback."""
        return self._url({**self._signed(now), "echostr": echostr})

    def read(self, body: bytes, event: Event) -> PassiveReply:
        """What the callback answered; in the compatible mode it may answer either way."""
        crypto = self._crypto
        if self.spec.mode is Mode.COMPATIBLE and b"<Encrypt>" not in body:
            crypto = None
        return read_reply(body, event.openid, self.spec.token, crypto)

    def _signed(self, now: float) -> dict[str, str]:
        timestamp, nonce = str(int(now)), str(secrets.randbelow(10**10))
        return {
            "signature": signature(self.spec.token, timestamp, nonce),
            "timestamp": timestamp,
            "nonce": nonce,
        }

    def _url(self, query: dict[str, str]) -> str:
        joint = "&" if "?" in self.spec.url else "?"
        return f"{self.spec.url}{joint}{urlencode(query)}"
