"""Whether a request is WeChat's, and the push within it. Pure: query and body in, a value out.

In plain mode the signature says only that the sender knows the token; in safe mode it covers the content.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from broadcastd.callback.crypto import Cipher, UndecipherableError, decrypt_with_any, is_signed, key_of
from broadcastd.callback.parsing import Fields, UnreadablePushError, fields_of, push_of
from broadcastd.callback_settings import AccountCallbackSettings, Mode
from broadcastd.pushes import Push

Query = Mapping[str, str]

FORBIDDEN = 403
UNREADABLE = 400


@dataclass(frozen=True, slots=True)
class Refused:
    """Not to be taken in. `reason` is for the log: who asks is told nothing."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A push that is WeChat's, and how its reply is to look."""

    push: Push
    as_json: bool
    cipher: Cipher | None
    """The one that opened it; None for a plain push."""
    nonce: str


WRONG_SIGNATURE = Refused(FORBIDDEN, "the signature is wrong: is callback.token the one in WeChat's console?")
NO_PUSH = Refused(UNREADABLE, "the body is no push of WeChat's")
PLAIN_IN_SAFE_MODE = Refused(FORBIDDEN, "a push that is not encrypted, in mode safe")
NO_KEY = Refused(FORBIDDEN, "an encrypted push, and callback.aes_key is not set")
WRONG_KEY = Refused(FORBIDDEN, "it cannot be decrypted: is callback.aes_key, or app_id, another account's?")


class Envelope:
    """One account's token and keys."""

    def __init__(self, settings: AccountCallbackSettings, app_id: str) -> None:
        self.token = settings.token.get_secret_value()
        self._mode = settings.secure_mode
        self._window_s = settings.replay_window_s
        keys = [key for key in (settings.aes_key, settings.previous_aes_key) if key is not None]
        self._ciphers = [Cipher(key_of(key.get_secret_value()), app_id) for key in keys]

    def is_from_wechat(self, query: Query) -> bool:
        """Whether the query is signed with the token: all that a verification (GET) has."""
        return is_signed(query.get("signature", ""), self.token, *_moment(query))

    def open(self, query: Query, body: bytes, now_s: float) -> Opened | Refused:
        """The push in a request."""
        encrypted = query.get("encrypt_type", "raw") == "aes" or "msg_signature" in query
        if not encrypted and self._mode is Mode.SAFE:
            return PLAIN_IN_SAFE_MODE
        if not encrypted and not self.is_from_wechat(query):
            return WRONG_SIGNATURE
        try:
            fields, as_json = fields_of(body)
            if encrypted and (self._ciphers or "MsgType" not in fields):
                return self._decrypted(query, fields, now_s, as_json=as_json)
            # Compatible mode, and no key here: its plain fields are there too.
            if encrypted and not self.is_from_wechat(query):
                return WRONG_SIGNATURE
            return self._late(query, now_s) or Opened(push_of(fields), as_json, None, query.get("nonce", ""))
        except UnreadablePushError:
            return NO_PUSH

    def _decrypted(self, query: Query, fields: Fields, now_s: float, *, as_json: bool) -> Opened | Refused:
        sealed = fields.get("Encrypt")
        if not isinstance(sealed, str):
            return NO_PUSH
        if not is_signed(query.get("msg_signature", ""), self.token, *_moment(query), sealed):
            return WRONG_SIGNATURE
        if (late := self._late(query, now_s)) is not None:
            return late
        if not self._ciphers:
            return NO_KEY
        try:
            body, cipher = decrypt_with_any(self._ciphers, sealed)
        except UndecipherableError:
            return WRONG_KEY
        inner, _ = fields_of(body)
        return Opened(push_of(inner), as_json, cipher, query.get("nonce", ""))

    def _late(self, query: Query, now_s: float) -> Refused | None:
        """Whoever has seen a request can send it again, but not for ever."""
        timestamp = query.get("timestamp", "")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            return WRONG_SIGNATURE
        off_s = int(timestamp) - now_s
        if abs(off_s) <= self._window_s:
            return None
        return Refused(
            FORBIDDEN,
            f"its timestamp is {abs(off_s):.0f} s {'ahead' if off_s > 0 else 'old'}, more than"
            " callback.replay_window_s: a repeat of an old request, or this machine's clock is wrong",
        )


def _moment(query: Query) -> tuple[str, str]:
    return query.get("timestamp", ""), query.get("nonce", "")
