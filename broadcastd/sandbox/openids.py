"""Made-up openids of 28 characters; the number is read back from them, so a million need no table."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

_PREFIX = "oSbox_"  # as in life, all openids of an account begin alike
_MASK = (1 << 64) - 1
_FACTOR = 0x9E3779B97F4A7C15  # odd, hence reversible modulo 2^64
_INVERSE = pow(_FACTOR, -1, 1 << 64)
_SALT = 0x5A4DB0C5D1CE5EED
_CHECK = 0xC2B2AE3D27D4EB4F


def openid(number: int) -> str:
    """The openid of follower `number` (from 0): the same in every process and version."""
    spread = (number * _FACTOR ^ _SALT) & _MASK
    check = (number * _CHECK ^ spread) & _MASK
    packed = (spread << 64 | check).to_bytes(16, "big")
    return _PREFIX + urlsafe_b64encode(packed)[:22].decode()


def number_of(text: str) -> int:
    """The number whose openid this is, or -1."""
    if len(text) != 28 or not text.startswith(_PREFIX):
        return -1
    try:
        packed = urlsafe_b64decode(text[6:] + "==")
    except ValueError:
        return -1
    number = ((int.from_bytes(packed[:8], "big") ^ _SALT) * _INVERSE) & _MASK
    return number if openid(number) == text else -1
