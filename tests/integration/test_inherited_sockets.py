"""Which inherited descriptor is whose, and what is refused."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from broadcastd.activation import inherited
from broadcastd.errors import CannotListenError


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Three listening sockets whose descriptors follow each other, inheritable as systemd's are."""
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        first = 200
        for number, one in enumerate(made):
            os.dup2(one.fileno(), first + number)
        yield made
        for number in range(3):
            try:
                os.close(first + number)
            except OSError:
                continue  # whoever took it over has closed it


def _environment(count: int, names: str | None = None, pid: int | None = None) -> dict[str, str]:
    found = {"LISTEN_FDS": str(count), "LISTEN_PID": str(pid or os.getpid()), "PATH": "/bin"}
    return found if names is None else {**found, "LISTEN_FDNAMES": names}


def _ports(sockets: tuple[socket.socket, ...]) -> list[int]:
    ports = []
    for one in sockets:
        ports.append(one.getsockname()[1])
        assert not one.get_inheritable()
        one.detach()
    return ports


def test_by_name(sockets: list[socket.socket]) -> None:
    ports = [one.getsockname()[1] for one in sockets]
    environment = _environment(3, "broadcastd:http:broadcastd@a.socket")
    found = inherited(environment, 200)
    assert _ports(found.frames) == [ports[0], ports[2]]
    assert _ports(found.http) == [ports[1]]
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize("names", [None, "", "unknown", "anything"])
def test_the_only_one_is_the_frames(sockets: list[socket.socket], names: str | None) -> None:
    found = inherited(_environment(1, names), 200)
    assert _ports(found.frames) == [sockets[0].getsockname()[1]]
    assert found.http == ()


def test_only_http(sockets: list[socket.socket]) -> None:
    found = inherited(_environment(1, "http"), 200)
    assert found.frames == ()
    assert _ports(found.http) == [sockets[0].getsockname()[1]]


def test_those_of_another_process_are_not_ours(sockets: list[socket.socket]) -> None:
    environment = _environment(3, "broadcastd", pid=1)
    assert inherited(environment, 200) == inherited({})
    assert environment == {"PATH": "/bin"}


def test_a_name_that_means_nothing_is_refused(sockets: list[socket.socket]) -> None:
    with pytest.raises(CannotListenError, match=r"named 'other'; accepted .*: broadcastd, http"):
        inherited(_environment(2, "other:http"), 200)


def test_what_is_no_listening_socket_is_refused() -> None:
    listening, saying = os.pipe()
    with socket.socket() as idle:
        os.dup2(idle.fileno(), 210)
    try:
        with pytest.raises(CannotListenError, match="cannot be used: Socket operation on non-socket"):
            inherited(_environment(1, "broadcastd"), listening)
        with pytest.raises(CannotListenError, match="is not a listening TCP socket"):
            inherited(_environment(1, "broadcastd"), 210)
        with pytest.raises(CannotListenError, match="cannot be used: Bad file descriptor"):
            inherited(_environment(1, "broadcastd"), 999)
    finally:
        os.close(listening)
        os.close(saying)
