"""TLS on the port of frames: who is let in, what both sides read when somebody is not; nothing is harmed."""

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.certificates import Authority, Pair
from bed.daemon import DaemonProcess, daemon_process
from bed.ports import eventually
from bed.scripted import Run
from bed.site import sqlite_site
from bed.wire import RawClient

from broadcastd import tls
from broadcastd.errors import NoDaemonError, SettingsError
from broadcastd.server_settings import ServerSettings
from broadcastd.wire import dial
from broadcastd_client import Client, Refused, Unreachable

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NOWHERE = "http://127.0.0.1:9"
PING = {"op": "ping"}


class Bed:
    """A daemon that demands certificates of a CA, and who else there is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.other = Authority(folder, "other")
        self.server = self.authority.issue("server", "127.0.0.1", "frames.example.com")
        self.client = self.authority.issue("client")
        self.expired = self.authority.issue("expired", "127.0.0.1", days=-1)
        self.stranger = self.other.issue("stranger", "127.0.0.1")

    def keys(self, **more: Any) -> str:
        keys = {"tls_cert": self.server.cert, "tls_key": self.server.key, **more}
        return "\n".join(f'{name} = "{value}"' for name, value in keys.items())

    def trusting(
        self, pair: Pair | None = None, *, ca: Path | None = None, check_name: bool = True
    ) -> ssl.SSLContext:
        shown = (str(pair.cert), str(pair.key)) if pair else ()
        return tls.client_context(str(ca or self.authority.ca), *shown, check_name=check_name)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    return Bed(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def strict(bed: Bed) -> Iterator[DaemonProcess]:
    """Demands a certificate of the CA."""
    folder = bed.folder / "strict"
    folder.mkdir()
    daemon = DaemonProcess(
        folder, NOWHERE, sqlite_site(folder / "s.db", 1), server=bed.keys(tls_client_ca=bed.authority.ca)
    )
    daemon.tls = bed.trusting(bed.client)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def open_to_all(bed: Bed) -> Iterator[DaemonProcess]:
    """TLS, and no certificate of a client is asked for."""
    folder = bed.folder / "open"
    folder.mkdir()
    daemon = DaemonProcess(folder, NOWHERE, sqlite_site(folder / "s.db", 1), server=bed.keys())
    daemon.tls = bed.trusting()
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()


def says_in_the_log(daemon: DaemonProcess, event: str, why: str) -> None:
    eventually(lambda: any(why in str(line) for line in daemon.events(event)), what=why)
    assert "Traceback" not in daemon.log
    assert daemon.call(PING)["ok"]


def fails(daemon: DaemonProcess, context: ssl.SSLContext, why: str) -> None:
    with pytest.raises(NoDaemonError) as error:
        dial.call("127.0.0.1", daemon.port, PING, tls=context)
    assert why in str(error.value)
    assert daemon.call(PING)["ok"]


def test_frames_over_tls_on_a_connection_that_stays(bed: Bed, open_to_all: DaemonProcess) -> None:
    with RawClient(open_to_all.port) as raw:
        secure = bed.trusting().wrap_socket(raw.socket, server_hostname="127.0.0.1")
        assert secure.version() in ("TLSv1.2", "TLSv1.3")
        with secure, secure.makefile("rb") as lines:
            for _ in range(3):
                secure.sendall(b'{"op":"ping"}\n')
                assert b'"ok":true' in lines.readline()
            secure.sendall(b'{"op":"ping"}')  # the old way: no line end, and silence
            assert b'"ok":true' in lines.readline()


def test_old_tls_is_refused(bed: Bed, open_to_all: DaemonProcess) -> None:
    with RawClient(open_to_all.port) as raw:
        old = bed.trusting()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            old.wrap_socket(raw.socket, server_hostname="127.0.0.1")
    assert open_to_all.call(PING)["ok"]


def test_a_wrong_ca_and_a_wrong_name(bed: Bed, open_to_all: DaemonProcess) -> None:
    fails(open_to_all, bed.trusting(ca=bed.other.ca), "its certificate is not accepted: unable to get local")
    with pytest.raises(NoDaemonError, match="certificate is not accepted: Hostname mismatch"):
        dial.call("localhost", open_to_all.port, PING, tls=bed.trusting())
    says_in_the_log(open_to_all, "tls_failed", "it does not accept this side: ")


def test_the_very_certificate_is_trust_enough(bed: Bed, open_to_all: DaemonProcess) -> None:
    context = bed.trusting(ca=bed.server.cert, check_name=False)
    assert dial.call("localhost", open_to_all.port, PING, tls=context)["ok"]


def test_without_a_certificate_or_with_a_strangers(bed: Bed, strict: DaemonProcess) -> None:
    fails(strict, bed.trusting(), "it does not let us in: certificate required")
    fails(strict, bed.trusting(bed.stranger), "it does not let us in: unknown ca")
    fails(strict, bed.trusting(bed.expired), "it does not let us in: certificate expired")
    for why in (
        "it shows no certificate, which server.tls_client_ca demands",
        "its certificate is not accepted: unable to get local issuer certificate",
        "its certificate is not accepted: certificate has expired",
    ):
        says_in_the_log(strict, "tls_failed", why)


def test_who_does_not_speak_tls_is_told_so_in_its_own_words(strict: DaemonProcess) -> None:
    reply = dial.call("127.0.0.1", strict.port, PING)
    assert (reply["error"], reply["message"]) == ("unauthorized", "this port speaks TLS only")
    says_in_the_log(strict, "tls_failed", "it does not speak TLS")


def test_tls_to_a_port_without(bed: Bed, tmp_path: Path) -> None:
    with daemon_process(tmp_path, NOWHERE, sqlite_site(tmp_path / "s.db", 1)) as daemon:
        fails(daemon, bed.trusting(), "it does not speak TLS, which server.tls_cert (or --tls-ca) asks for")
        says_in_the_log(daemon, "frame_refused", "this is TLS, which this port does not have")


def test_who_never_agrees_on_keys_holds_nobody_up(bed: Bed, open_to_all: DaemonProcess) -> None:
    silent = [RawClient(open_to_all.port) for _ in range(20)]
    try:
        silent[0].send(b"\x16\x03\x01")
        began = time.monotonic()
        assert open_to_all.call(PING)["ok"]
        assert time.monotonic() - began < tls.HANDSHAKE_S / 2
    finally:
        for one in silent:
            one.close()
    assert open_to_all.call(PING)["ok"]


def test_commands_find_their_way(
    bed: Bed, run: Run, strict: DaemonProcess, open_to_all: DaemonProcess
) -> None:
    for daemon in (strict, open_to_all):
        assert run("ping", "-c", str(daemon.settings)).code == 0
    remote = ("ping", "--host", "127.0.0.1", "--port", strict.port)
    shown = ("--tls-cert", bed.client.cert, "--tls-key", bed.client.key)
    assert run(*remote, "--tls-ca", bed.authority.ca, *map(str, shown)).code == 0
    ran = run(*remote, "--tls-ca", str(bed.authority.ca))
    assert ran.code == 3
    assert "it does not let us in: certificate required (--tls-cert, --tls-key)" in ran.err
    assert "this port speaks TLS only" in run(*remote).err
    assert "No such file" in run(*remote, "--tls-ca", "missing.pem").err


def test_the_client_library(bed: Bed, strict: DaemonProcess) -> None:
    files = {"tls_cert": bed.client.cert, "tls_key": bed.client.key}
    client = Client(port=strict.port, tls_ca=bed.authority.ca, timeout_s=20, **files)
    assert client.broadcast("over TLS", key="k")["key"] == "k"
    with pytest.raises(Unreachable, match="it does not let us in: certificate required"):
        Client(port=strict.port, tls_ca=bed.authority.ca).ping()
    with pytest.raises(Refused, match="this port speaks TLS only") as error:
        Client(port=strict.port).ping()
    assert not error.value.final  # a missing setting costs no paid post: it is spooled


def test_the_php_client(bed: Bed, strict: DaemonProcess) -> None:
    def call(**options: Path) -> str:
        pairs = ", ".join(f"'{name}' => '{value}'" for name, value in options.items())
        script = (
            f"require '{EXAMPLES}/broadcast.php'; try {{ echo broadcast(['content' => 'php', 'key' => 'p'],"
            f" 'tls://127.0.0.1:{strict.port}', 20, [{pairs}])['key']; }}"
            " catch (RuntimeException $e) { echo $e->getCode(), ': ', $e->getMessage(); }"
        )
        done = subprocess.run(["php", "-r", script], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    shown = {"local_cert": bed.client.cert, "local_pk": bed.client.key}
    assert call(cafile=bed.authority.ca, **shown) == "p"
    assert "1: broadcastd cannot be reached at tls://" in call(cafile=bed.other.ca, **shown)
    assert call(cafile=bed.authority.ca).startswith("1: broadcastd ")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"tls_cert": "missing.pem"}, "server.tls_cert: {0}/missing.pem cannot be used: No such file"),
        (
            {"tls_key": "other.pem"},
            "server.tls_cert: {0}/server.pem cannot be used: it, or its key, is no PEM",
        ),
        ({"tls_key": "client.key"}, "{0}/server.pem cannot be used: it is not the certificate of this key"),
        (
            {"tls_cert": "expired.pem", "tls_key": "expired.key"},
            "server.tls_cert: {0}/expired.pem has expired on",
        ),
        ({"tls_client_ca": "server.key"}, "server.tls_client_ca: {0}/server.key cannot be used: it, or its"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_check_and_at_the_start(
    bed: Bed, run: Run, keys: dict[str, str], says: str
) -> None:
    sqlite_site(bed.folder / "s.db", 1)
    values = {"tls_cert": "server.pem", "tls_key": "server.key", **keys}
    settings = bed.folder / "broadcastd.toml"
    settings.write_text(
        "[server]\nport = 0\n"
        + "\n".join(f'{name} = "{value}"' for name, value in values.items())
        + '\n[accounts.default]\nchannels = ["custom"]\n[accounts.default.audience]\nurl = "sqlite:///s.db"\n'
    )
    for command in ("check", "run"):
        ran = run(*(("config", "check") if command == "check" else ("run",)), "-c", str(settings))
        assert ran.code == 4
        assert says.format(bed.folder) in ran.err


def test_a_new_certificate_is_taken_by_a_new_context(bed: Bed) -> None:
    """What a reload does: files are read anew, connections that are there stay."""
    pair = bed.authority.issue("changing", "127.0.0.1")
    settings = ServerSettings(tls_cert=str(pair.cert), tls_key=str(pair.key))
    assert tls.server_context(settings) is not None
    pair.cert.write_text("broken")
    with pytest.raises(SettingsError, match=r"changing\.pem cannot be used"):
        tls.server_context(settings)
    bed.authority.issue("changing", "127.0.0.1")
    assert tls.server_context(settings) is not None


def test_a_handshake_in_bytes_is_taken(bed: Bed, open_to_all: DaemonProcess) -> None:
    """All of it may come a byte at a time."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = bed.trusting().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", open_to_all.port), 10) as raw:
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    raw.sendall(bytes([byte]))
                incoming.write(raw.recv(65536))
        session.write(b'{"op":"ping"}\n')
        for byte in outgoing.read():
            raw.sendall(bytes([byte]))
        reply = b""
        while not reply:
            incoming.write(raw.recv(65536))
            try:
                reply = session.read(65536)
            except ssl.SSLWantReadError:
                continue
        assert b'"ok":true' in reply
