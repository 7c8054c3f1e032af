"""The sockets that systemd holds open for the daemon (sd_listen_fds(3)): they outlive a restart."""

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

from broadcastd.errors import CannotListenError

FIRST_FD = 3
"""Where systemd puts the first one (SD_LISTEN_FDS_START)."""
HTTP = "http"


@dataclass(frozen=True, slots=True)
class Inherited:
    """Listening sockets from outside. What has none opens its own port."""

    frames: tuple[socket.socket, ...] = ()
    http: tuple[socket.socket, ...] = ()


def inherited(environment: MutableMapping[str, str], first_fd: int = FIRST_FD) -> Inherited:
    """Take them over. The environment says it no more afterwards, and no child gets them.

    A name `http` (`FileDescriptorName=` of the socket unit) is the HTTP port's; `broadcastd`, the unit's own
    name, and a single one without a name are the frames'. Raises CannotListenError for what is neither.
    """
    for_whom = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if for_whom != str(os.getpid()) or not count.isdecimal():
        return Inherited()
    names += [""] * (int(count) - len(names))
    frames: list[socket.socket] = []
    http: list[socket.socket] = []
    for number in range(int(count)):
        name = names[number]
        if not (int(count) == 1 or name == HTTP or name.startswith("broadcastd")):
            raise CannotListenError(
                f"an inherited socket is named {name!r}; accepted (FileDescriptorName=): broadcastd, {HTTP}"
            )
        (http if name == HTTP else frames).append(_listening(first_fd + number, name))
    return Inherited(tuple(frames), tuple(http))


def _listening(descriptor: int, name: str) -> socket.socket:
    where = f"the inherited socket {name or 'without a name'} (descriptor {descriptor})"
    found = None
    try:
        os.set_inheritable(descriptor, False)
        found = socket.socket(fileno=descriptor)
        is_tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
        listens = is_tcp and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        if found is not None:
            found.detach()
        raise CannotListenError(f"{where} cannot be used: {error.strerror}") from error
    if not listens:
        found.close()
        raise CannotListenError(f"{where} is not a listening TCP socket (ListenStream=HOST:PORT)")
    return found
