"""A reply as one line of JSON. Operators read it with netcat and curl: it must not steer their terminal."""

import re
from typing import Any

import orjson

from broadcastd.log import escaped_json

# The same characters as there, as UTF-8: most lines have none. JSON has the rest escaped.
_UNSAFE = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]|\xef\xbb\xbf"
)


def json_line(value: Any) -> bytes:
    """The value, its line end with it."""
    line = orjson.dumps(value)
    if _UNSAFE.search(line):
        line = escaped_json(line.decode()).encode()
    return line + b"\n"
