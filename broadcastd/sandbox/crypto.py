"""Signatures and encryption of pushes and replies (reference, section 6). Pure but for random bytes."""

import base64
import binascii
import hashlib
import secrets

_RANDOM_BYTES = 16
_LENGTH_BYTES = 4
KEY_CHARACTERS = 43


def signature(*parts: str) -> str:
    """Of token, timestamp and nonce, and of the encrypted text where there is one."""
    return hashlib.sha1("".join(sorted(parts)).encode()).hexdigest()  # noqa: S324  # WeChat's choice


class Crypto:
    """One EncodingAESKey of one account; `ValueError` when the key is none."""

    def __init__(self, aes_key: str, app_id: str) -> None:
        if len(aes_key) != KEY_CHARACTERS:
            raise ValueError(f"aes_key must have {KEY_CHARACTERS} characters")
        try:
            key = base64.b64decode(aes_key + "=", validate=True)
        except binascii.Error:
            raise ValueError("aes_key must be base64") from None
        # Imported only where pushes are encrypted: it is 7 MB of the memory of a sandbox.
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415
        from cryptography.hazmat.primitives.padding import PKCS7  # noqa: PLC0415

        self._app_id = app_id.encode()
        # WeChat pads to 32 bytes, not to the cipher's 16.
        self._padding = PKCS7(256)
        self._cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16]))

    def encrypt(self, text: str) -> str:
        """As it stands in `Encrypt`."""
        raw = text.encode()
        plain = (
            secrets.token_bytes(_RANDOM_BYTES) + len(raw).to_bytes(_LENGTH_BYTES, "big") + raw + self._app_id
        )
        padder, encryptor = self._padding.padder(), self._cipher.encryptor()
        padded = padder.update(plain) + padder.finalize()
        return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()

    def decrypt(self, encrypted: str) -> str:
        """The text of an `Encrypt`; `ValueError` when it is of another key or account, or damaged."""
        try:
            raw = base64.b64decode(encrypted, validate=True)
            decryptor, unpadder = self._cipher.decryptor(), self._padding.unpadder()
            padded = decryptor.update(raw) + decryptor.finalize()
            plain = (unpadder.update(padded) + unpadder.finalize())[_RANDOM_BYTES:]
            end = _LENGTH_BYTES + int.from_bytes(plain[:_LENGTH_BYTES], "big")
            text, app_id = plain[_LENGTH_BYTES:end].decode(), plain[end:]
        except ValueError:  # that of binascii and of Unicode, too
            raise ValueError("cannot be decrypted") from None
        if app_id != self._app_id:
            raise ValueError("encrypted for another appid")
        return text
