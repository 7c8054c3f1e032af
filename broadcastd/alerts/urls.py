"""What may be shown of an alert's address."""

import re
from urllib.parse import unquote

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)+")
SHORTEST_SECRET = 3


def shown(url: str) -> str:
    """The service, and its host where that is one: in many addresses the key stands in the host's place."""
    scheme, _, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    name, _, port = host.partition(":")
    if not _HOST.fullmatch(name) and name != "localhost":
        return f"{scheme}://…"
    return f"{scheme}://{name}:{port}" if port.isdigit() else f"{scheme}://{name}"


def scrubbed(text: str, url: str) -> str:
    """`text` without anything of the address that `shown` does not show."""
    public = shown(url)
    written = url.partition("://")[2]
    pieces = {written}
    for rest in (written, unquote(written)):
        pieces |= {rest, *re.split(r"[/?#&=:@]", rest), *re.split(r"[^\w-]+", rest)}
    for piece in sorted(pieces | {unquote(one) for one in pieces}, key=len, reverse=True):
        if len(piece) >= SHORTEST_SECRET and piece not in public:
            text = text.replace(piece, "***")
    return text
