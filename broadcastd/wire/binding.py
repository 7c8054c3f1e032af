"""Takes a TCP port without listening on it yet: whoever comes is refused until somebody listens."""

import errno
import socket

from broadcastd.errors import CannotListenError
from broadcastd.server_settings import ServerSettings
from broadcastd.wire.port_holder import port_holder


def bound(settings: ServerSettings) -> list[socket.socket]:
    """A socket for each address that `server.host` means. Raises CannotListenError in plain words."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                one = socket.socket(family, kind, protocol)
            except OSError:
                continue  # a machine without IPv6, say
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Port 0 is any free one, and then the same for the other addresses.
            port = sockets[0].getsockname()[1] if len(sockets) > 1 else settings.port
            one.bind((address[0], port, *address[2:]))
    except OSError as error:
        for one in sockets:
            one.close()
        raise CannotListenError(why_not(error, settings)) from error
    if not sockets:
        raise CannotListenError(f"{settings.host} is no address of this machine (server.host)")
    return sockets


def why_not(error: OSError, settings: ServerSettings) -> str:
    """Why the port cannot be had."""
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where} is in use by {port_holder(settings.port)}; choose another with server.port"
            " (9090 is also the default of Prometheus and Cockpit)"
        )
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{settings.host} is no address of this machine (server.host)"
    return f"cannot listen on {where}: {error.strerror or error}"
