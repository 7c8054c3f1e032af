"""The heads of HTTP/1.1: of requests, rendered once; what is looked for in those of answers."""

import re
from base64 import b64encode

from yarl import URL

HEADERS = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "broadcastd"}
"""Of all requests."""

HEAD_MOST_BYTES = 65536
"""Of what is not an answer's body: its head, the sizes of its chunks."""
HAS_LENGTH = re.compile(rb"\n(content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
"""The body does not end with the connection."""
HAS_ENCODING = re.compile(rb"\ncontent-encoding[ \t]*:(?![ \t]*identity[ \t]*\r?\n)", re.IGNORECASE)
"""The body is compressed, say."""
LENIENT = dict.fromkeys(
    ("lenient_headers", "lenient_optional_cr_before_lf", "lenient_spaces_after_chunk_size"), True
)
"""How httptools reads them: as aiohttp does."""


class Heads(dict[int, bytes]):
    """Whole heads of POSTs to one URL, by the length of the body: those of a job are all of much the same."""

    def __init__(self, url: URL) -> None:
        super().__init__()
        lines = {"Host": url.host_port_subcomponent, **HEADERS, "Accept-Encoding": "identity"}
        if url.user is not None:
            user = f"{url.user}:{url.password or ''}"
            lines["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        self._start = f"POST {url.raw_path_qs} HTTP/1.1\r\n"
        self._start += "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    def __missing__(self, length: int) -> bytes:
        self[length] = head = f"{self._start}Content-Length: {length}\r\n\r\n".encode()
        return head
