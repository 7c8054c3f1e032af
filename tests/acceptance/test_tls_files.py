"""A certificate's files change under a running daemon: it takes the new ones by itself, if they are good."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed.certificates import Authority, Pair
from bed.daemon import DaemonProcess
from bed.doctor import ask_doctor
from bed.http_port import client_of, http_settings
from bed.ports import eventually, free_port
from bed.scripted import Run
from bed.site import sqlite_site
from bed.watched import look, watch

from broadcastd import tls
from broadcastd.doctor.finding import Verdict
from broadcastd.errors import SettingsError
from broadcastd.server_settings import ServerSettings

KEYS = 'tls_cert = "server.pem"\ntls_key = "server.key"'


class Bed:
    """A daemon with one certificate of a private CA on both its ports. The file holds that one alone."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.pair = self.authority.issue("server", "127.0.0.1")
        site = sqlite_site(folder / "s.db", 1)
        self.daemon = DaemonProcess(folder, "http://127.0.0.1:9", site, server=KEYS, **http_settings(KEYS))
        self.daemon.tls = tls.client_context(str(self.authority.ca), check_name=True)
        self.http_port = client_of(self.daemon).port

    def served(self, port: int) -> bytes:
        """The certificate that a newcomer is shown."""
        context = tls.client_context(str(self.authority.ca), check_name=True)
        with (
            socket.create_connection(("127.0.0.1", port), 20) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""

    def ports(self) -> tuple[int, int]:
        return self.daemon.port, self.http_port


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    bed = Bed(tmp_path)
    try:
        bed.daemon.start()
        yield bed
    finally:
        bed.daemon.close()


def in_file(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert.read_text())


def test_new_files_are_taken_and_commands_go_on(bed: Bed, run: Run) -> None:
    settings = str(bed.daemon.settings)
    assert run("status", "-c", settings).code == 0
    for command in ("reload", "status"):
        pair = bed.authority.issue("server", "127.0.0.1")
        ran = run(command, "-c", settings)
        assert ran.code == 0, ran.err
        for port in bed.ports():
            eventually(lambda port=port, pair=pair: bed.served(port) == in_file(pair))
    assert len(bed.daemon.events("certificate_taken")) >= 2
    assert not bed.daemon.events("certificate_not_taken")


@pytest.mark.parametrize("bad", ["expired", "other key"])
def test_bad_files_change_nothing_and_are_named(bed: Bed, run: Run, bad: str) -> None:
    before = in_file(bed.pair)
    if bad == "expired":
        bed.authority.issue("server", "127.0.0.1", days=-1)
        says = f"server.tls_cert: {bed.pair.cert} has expired on"
    else:
        bed.pair.key.write_bytes(bed.authority.issue("another").key.read_bytes())
        says = f"server.tls_cert: {bed.pair.cert} cannot be used: it is not the certificate of this key"

    def refused() -> int:
        assert [bed.served(port) for port in bed.ports()] == [before, before]
        return len(bed.daemon.events("certificate_not_taken"))

    eventually(lambda: refused() == 2)  # once a port
    said = bed.daemon.events("certificate_not_taken")
    assert any(says in str(line["why"]) for line in said)
    for command in ("reload", "status"):
        ran = run(command, "-c", str(bed.daemon.settings))
        assert ran.code == 4
        assert says in ran.err
        assert "--tls-cert" not in ran.err
    # Whoever can see to it otherwise is not kept from that: the monitor tells, and restarts nothing.
    watch(bed.daemon, f"mailto://127.0.0.1:{free_port()}?to=a@b.example", restart=["false"], timeout_s=1)
    seen = look(bed.daemon, "--no-alert")
    assert (seen.exit_code, seen.done) == (1, [])
    assert says in seen.troubles["port"]
    told = ask_doctor(bed.daemon.settings, "settings", "port", "other-ports", "daemon", offline=True)
    failed = [one.finding.seen for one in told if one.finding.verdict is Verdict.FAIL]
    assert len([words for words in failed if says in words]) == 1
    assert len(failed) == 2  # the other is of http
    bed.authority.issue("server", "127.0.0.1")
    assert run("reload", "-c", str(bed.daemon.settings)).code == 0
    assert refused_no_more(bed)


def refused_no_more(bed: Bed) -> bool:
    return all(eventually(lambda port=port: bed.served(port) == in_file(bed.pair)) for port in bed.ports())


def test_it_looks_once_a_second_and_says_once_what_it_does_not_take(tmp_path: Path) -> None:
    now_s = [0.0]
    ours = Authority(tmp_path)
    pair = ours.issue("server", "127.0.0.1")
    settings = ServerSettings(tls_cert=str(pair.cert), tls_key=str(pair.key))
    context = tls.FollowingContext.of(settings, now_s=lambda: now_s[0])
    assert context is not None

    def shown() -> ssl.SSLContext:
        begun = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
        assert isinstance(begun.context, ssl.SSLContext)
        return begun.context

    first = shown()
    ours.issue("server", "127.0.0.1")
    now_s[0] += tls.LOOK_S / 2
    assert shown() is first
    now_s[0] += tls.LOOK_S
    second = shown()
    assert second is not first
    pair.cert.unlink()
    now_s[0] += tls.LOOK_S * 2
    assert shown() is second
    with pytest.raises(SettingsError, match=r"server\.tls_cert: .*server\.pem cannot be used: No such file"):
        context.renew()
    assert shown() is second
    ours.issue("server", "127.0.0.1")
    now_s[0] += tls.LOOK_S * 2
    assert shown() is not second
