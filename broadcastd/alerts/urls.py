"""What may be shown of an alert's address, and whether apprise can use it."""

import logging
import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

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
    public = set(re.split(r"\W+", shown(url)))
    public.add(shown(url).partition("://")[2])
    written = url.partition("://")[2]
    pieces = {written}
    for rest in (written, unquote(written)):
        pieces |= {rest, *re.split(r"[/?#&=:@]", rest), *re.split(r"[^\w-]+", rest)}
    for piece in sorted(pieces | {unquote(one) for one in pieces}, key=len, reverse=True):
        if len(piece) >= SHORTEST_SECRET and piece not in public:
            text = text.replace(piece, "***")
    return text


def unusable(urls: Sequence[str]) -> list[str]:
    """In words, which of the addresses apprise cannot use. It imports apprise, and sends nothing."""
    # 20 MB, which only the commands and the child carry.
    import apprise  # noqa: PLC0415
    from apprise.manager_plugins import NotificationManager  # noqa: PLC0415

    logging.getLogger("apprise").disabled = True  # it would name what it cannot read
    known = NotificationManager()  # type: ignore[no-untyped-call]
    words = []
    for number, url in enumerate(urls, 1):
        if apprise.Apprise.instantiate(url, suppress_exceptions=True) is None:
            scheme = urlsplit(url).scheme
            why = (
                "something is missing or wrong behind it"
                if scheme in known
                else "apprise knows no such service"
            )
            words.append(f"number {number} ({scheme}://…): {why}")
    return words
