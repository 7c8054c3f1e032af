"""Signatures and AES of WeChat's pushes (docs/wechat-api.md, section 6). Pure but for the random bytes.

`msg_signature` is over the encrypted text and is checked before anything is decrypted, so how a padding is
wrong is never told to who does not know the token.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

BLOCK_BYTES = 32
"""What the padding fills up to: twice AES's own block."""
RANDOM_BYTES = 16
LENGTH_BYTES = 4
KEY_CHARACTERS = 43


class UndecipherableError(Exception):
    """No key of the account opens it, or it is another account's."""


def signature(*parts: str) -> str:
    """SHA-1 over the sorted parts: the token, timestamp, nonce and, of an encrypted push, its text."""
    return hashlib.sha1("".join(sorted(parts)).encode(errors="replace")).hexdigest()  # noqa: S324 - WeChat's


def is_signed(given: str, *parts: str) -> bool:
    """Whether `given` is the signature of the parts; takes as long whatever is wrong with it."""
    return hmac.compare_digest(given.encode(errors="replace"), signature(*parts).encode())


def key_of(encoding_aes_key: str) -> bytes:
    """The 32 bytes of an EncodingAESKey. Raises ValueError."""
    try:
        key = base64.b64decode(encoding_aes_key + "=", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(encoding_aes_key) != KEY_CHARACTERS or len(key) != BLOCK_BYTES:
        raise ValueError("accepted: the EncodingAESKey as WeChat's console shows it, 43 letters and digits")
    return key


class Cipher:
    """One key of one account."""

    def __init__(self, key: bytes, app_id: str) -> None:
        # Imported only where pushes are encrypted: it is 7 MB of a daemon's memory.
        from cryptography.hazmat.primitives.ciphers import Cipher as AesCipher  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.algorithms import AES256  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.modes import CBC  # noqa: PLC0415

        # The IV is the key's first half, as the platform has it; 16 random bytes before each text make up.
        self._aes = AesCipher(AES256(key), CBC(key[:16]))
        self._app_id = app_id.encode()

    def encrypt(self, text: bytes) -> str:
        """Random bytes, length, text and AppID, padded and encrypted, in base64."""
        length = len(text).to_bytes(LENGTH_BYTES, "big")
        plain = secrets.token_bytes(RANDOM_BYTES) + length + text + self._app_id
        padding = BLOCK_BYTES - len(plain) % BLOCK_BYTES
        encryptor = self._aes.encryptor()
        whole = encryptor.update(plain + bytes([padding]) * padding) + encryptor.finalize()
        return base64.b64encode(whole).decode()

    def decrypt(self, encrypted: str) -> bytes:
        """The text. Raises UndecipherableError for what was not made with this key for this AppID."""
        try:
            whole = base64.b64decode(encrypted, validate=True)
            decryptor = self._aes.decryptor()
            plain = decryptor.update(whole) + decryptor.finalize()
        except ValueError as error:  # of base64 too
            raise UndecipherableError from error
        plain = _unpadded(plain)
        body = plain[RANDOM_BYTES + LENGTH_BYTES :]
        length = int.from_bytes(plain[RANDOM_BYTES : RANDOM_BYTES + LENGTH_BYTES], "big")
        text, app_id = body[:length], body[length:]
        if len(text) != length or not hmac.compare_digest(app_id, self._app_id):
            raise UndecipherableError
        return text


def _unpadded(plain: bytes) -> bytes:
    padding = plain[-1] if plain else 0
    if not 1 <= padding <= BLOCK_BYTES or plain[-padding:] != bytes([padding]) * padding:
        raise UndecipherableError
    return plain[:-padding]


def decrypt_with_any(ciphers: Sequence[Cipher], encrypted: str) -> tuple[bytes, Cipher]:
    """The text and the cipher that opened it: its reply is encrypted with the same. Raises
    UndecipherableError."""
    for cipher in ciphers:
        try:
            return cipher.decrypt(encrypted), cipher
        except UndecipherableError:
            continue
    raise UndecipherableError
