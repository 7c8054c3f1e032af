"""Which addresses may come in, and how often one of them is worth a line in the log."""

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_NOTED = 1000
"""Addresses that are remembered; the one noted longest ago gives way."""


def check_networks(networks: Sequence[str]) -> None:
    """Raise ValueError, in plain words, for what is no network."""
    for one in networks:
        try:
            ipaddress.ip_network(one)
        except ValueError:
            raise ValueError(f"{one!r} is no network; accepted: {_meant(one)}") from None


def _meant(one: str) -> str:
    try:
        return str(ipaddress.ip_network(one, strict=False))
    except ValueError:
        return "an address, or one like 10.1.0.0/16 or fd00::/8"


class Allowed:
    """The networks that may come in; without any, everybody may."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks: Sequence[Network] = [ipaddress.ip_network(one) for one in networks]

    def admits(self, address: str) -> bool:
        """Whether whoever is at `address` may come in; without an address (a Unix socket) they may."""
        if not self._networks:
            return True
        try:
            there = _plain(address)
        except ValueError:
            return not address
        return any(there in network for network in self._networks)


def neighbourhood(address: str) -> str:
    """Whose an address is: of IPv6 a whole /64's, since whoever has one address of it has them all."""
    try:
        there = _plain(address)
    except ValueError:
        return address
    return str(there) if there.version == 4 else str(ipaddress.ip_network(f"{there}/64", strict=False))


def _plain(address: str) -> Address:
    there = ipaddress.ip_address(address.partition("%")[0])
    mapped = there.ipv4_mapped if isinstance(there, ipaddress.IPv6Address) else None
    return mapped or there


class Notes:
    """How many lines an address may have in the log: `lines` in `every_s` seconds; more are counted."""

    def __init__(self, lines: int = 1, every_s: float = 60.0) -> None:
        self._lines = lines
        self._every_s = every_s
        self._noted: dict[str, tuple[float, int]] = {}

    def note(self, address: str, now_s: float) -> int | None:
        """Once more. None: no line now; else write one: so many went without since the last."""
        since_s, count = self._noted.pop(address, (now_s, 0))
        unsaid = 0
        if now_s - since_s >= self._every_s:
            since_s, unsaid, count = now_s, max(0, count - self._lines), 0
        while len(self._noted) >= MOST_NOTED:
            del self._noted[next(iter(self._noted))]
        self._noted[address] = since_s, count + 1
        return unsaid if count < self._lines else None
