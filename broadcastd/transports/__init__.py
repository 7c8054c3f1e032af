"""Implementations of the `Transport` port: one file and one row each."""

from collections.abc import Callable, Mapping

from broadcastd.settings import HttpSettings
from broadcastd.transport_ports import Transport
from broadcastd.transports.aiohttp_transport import AiohttpTransport
from broadcastd.transports.lean import LeanTransport

TRANSPORTS: Mapping[str, Callable[[HttpSettings, int], Transport]] = {
    "aiohttp": AiohttpTransport,
    "lean": LeanTransport,
}


def open_transport(settings: HttpSettings, connections: int) -> Transport:
    """The one that the settings name. `connections`: as many as are ever in use for sends at once."""
    return TRANSPORTS[settings.transport](settings, connections)
