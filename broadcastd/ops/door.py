"""Keeps browsers out: a page that somebody happens to look at must not send to all followers. Pure.

A browser says which page a request comes from (`Origin`, `Sec-Fetch-Site`), and under which name it thinks to
have reached us (`Host`): a name that a stranger has pointed at 127.0.0.1 (DNS rebinding) is none of ours.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from broadcastd.ops.answers import Answer, bad

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
FOREIGN_SITES = frozenset({"cross-site", "same-site"})
PORT = re.compile(r":[0-9]{1,5}")
WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - they are looked for, not listened on


@dataclass(frozen=True, slots=True)
class Knock:
    """What of a request is looked at."""

    hosts: Sequence[str]
    """Every `Host` header."""
    origin: str | None
    site: str | None
    """`Sec-Fetch-Site`."""
    scheme: str
    address: str
    """Of this machine, where the connection was made to."""


def names_of(host: str, hosts: Collection[str]) -> frozenset[str]:
    """The names under which this port is known: `host` is where it listens, `hosts` what the settings add."""
    own = set() if host in WILDCARDS else {host.lower()}
    return frozenset(LOCAL_NAMES | own | {one.lower() for one in hosts})


def closed_to(knock: Knock, names: frozenset[str]) -> Answer | None:
    """Why this one does not get in; None: it does."""
    if len(knock.hosts) != 1:
        return bad(400, "a request has one Host header")
    (host,) = knock.hosts
    name = _name(host)
    if name is None:
        return bad(400, f"Host: {host[:80]!r} is not of the form NAME or NAME:PORT")
    if name not in names and name != knock.address.partition("%")[0]:
        return bad(421, f"this is no host of mine: {host[:80]!r}; accepted: {_listed(names)} (http.hosts)")
    if knock.origin is not None and knock.origin.lower() != f"{knock.scheme}://{host.lower()}":
        return bad(403, "requests from web pages are refused (Origin)")
    if knock.site in FOREIGN_SITES:
        return bad(403, "requests from web pages are refused (Sec-Fetch-Site)")
    return None


def _name(host: str) -> str | None:
    """Without its port. None: what is there as a port is none."""
    host = host.strip().lower()
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
    else:
        name, colon, rest = host.partition(":")
        rest = colon + rest
    return name if not rest or PORT.fullmatch(rest) else None


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
