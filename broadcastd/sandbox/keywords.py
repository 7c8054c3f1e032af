"""The rules for typed keywords of a template: `thing1`, `time2`, … (reference, section 2). Pure."""

from typing import Any

# The longest value of a type, in characters; types that are not named here have no rule.
_LONGEST = {"thing": 20, "character_string": 32, "phone_number": 17, "car_number": 8, "const": 20}
_DIGITS = "0123456789"


def wrong_keyword(data: dict[str, Any], constants: tuple[str, ...]) -> str:
    """The key of the first value that breaks its type's rule, or an empty text.

    `constants` are the approved values of `const`; any is when none are given.
    """
    for key, entry in data.items():
        kind = key.rstrip(_DIGITS)
        longest = _LONGEST.get(kind)
        if longest is None or kind == key:
            continue
        value = str(entry["value"])
        if len(value) > longest:
            return key
        # "No Chinese": letters, digits and signs are meant, so nothing beyond ASCII passes (choice).
        if kind == "character_string" and not value.isascii():
            return key
        if kind == "const" and constants and value not in constants:
            return key
    return ""
