"""The client library over TLS: whom it trusts, what it shows, and that no failure costs a post."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
from contextlib import contextmanager

import pytest
from client_scripted import answer, free_port, scripted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broadcastd_client import AsyncClient, Client, Unreachable, from_environment
from broadcastd_client.cli import main


def issue(folder, name, days=2, issuer=None, host="127.0.0.1"):
    """A certificate and its key in one file; its own issuer, or another one's."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    begins = ends - datetime.timedelta(days=30)
    serial = x509.random_serial_number()
    by, with_key = issuer or (subject, key)
    builder = x509.CertificateBuilder(by, subject, key.public_key(), serial, begins, ends)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    builder = builder.add_extension(names, False)
    builder = builder.add_extension(x509.BasicConstraints(issuer is None, None), True)
    pem = serialization.Encoding.PEM
    made = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.pem").write_bytes(made + builder.sign(with_key, hashes.SHA256()).public_bytes(pem))
    return subject, key


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("certificates")
    ca = issue(made, "ca")
    issue(made, "other")
    issue(made, "server", issuer=ca)
    issue(made, "elsewhere", issuer=ca, host="10.9.9.9")
    issue(made, "client", issuer=ca)
    issue(made, "expired", days=-2, issuer=ca)
    return made


@contextmanager
def daemon(folder, name="server", demands=False):
    """Plays one scripted answer a connection, over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem")
    if demands:
        context.load_verify_locations(folder / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED

    def play(server, sock):
        with context.wrap_socket(sock, server_side=True) as secure:
            answer(server, secure)

    with scripted(play) as server:
        yield server


def client(folder, server, ca="ca", **more):
    return Client(port=server.port, tls_ca=folder / f"{ca}.pem", timeout_s=1.0, **more)


def test_a_post_over_tls(folder):
    with daemon(folder) as server:
        assert client(folder, server).broadcast("x", key="k")["job"] == "j-k"
        trusting_itself = client(folder, server, ca="server")
        assert trusting_itself.ping()["version"] == "9"


def test_the_asyncio_twin(folder):
    with daemon(folder) as server:
        twin = AsyncClient(port=server.port, tls_ca=str(folder / "ca.pem"))
        assert asyncio.run(twin.ping())["version"] == "9"


def test_settings_from_the_environment(folder, monkeypatch, capsys):
    monkeypatch.setenv("BROADCASTD_TLS_CA", str(folder / "ca.pem"))
    monkeypatch.setenv("BROADCASTD_TLS", "1")
    assert from_environment().tls is True
    with daemon(folder) as server:
        assert main(["ping", "--port", str(server.port)]) == 0


@pytest.mark.parametrize(
    ("name", "ca", "says"),
    [
        ("server", "other", "its certificate is not accepted: unable to get local issuer"),
        ("expired", "ca", "its certificate is not accepted: certificate has expired"),
        ("server", "missing", "No such file"),
    ],
)
def test_who_is_not_trusted_gets_no_post(folder, tmp_path, name, ca, says):
    with daemon(folder, name) as server:
        with pytest.raises(Unreachable, match=says) as error:
            client(folder, server, ca, token="s3cret", spool=tmp_path / "spool").broadcast("x", key="k")
        assert server.lines == []
    assert error.value.spooled
    assert not error.value.maybe_accepted
    assert "s3cret" not in str(error.value)


def test_the_name_counts_beyond_loopback(folder, monkeypatch):
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: look_up("127.0.0.1", *a, **k))
    with daemon(folder, "elsewhere") as server:
        assert client(folder, server).ping()["version"] == "9"
        there = client(folder, server, host="10.9.9.9")
        assert there.ping()["version"] == "9"
        with pytest.raises(Unreachable, match="not accepted: IP address mismatch"):
            client(folder, server, host="10.9.9.8").ping()


def test_a_certificate_that_is_demanded(folder):
    with daemon(folder, demands=True) as server:
        assert client(folder, server, tls_cert=folder / "client.pem").ping()["version"] == "9"
        for shown in ({}, {"tls_cert": folder / "other.pem"}):
            with pytest.raises(Unreachable, match="it does not let us in: ") as error:
                client(folder, server, **shown).broadcast("x", key="k")
            assert not error.value.maybe_accepted


def test_a_port_without_tls(folder):
    def refuse_plainly(_server, sock):
        sock.recv(5)
        sock.sendall(b'{"ok":false,"error":"bad_frame","message":"it must begin with {"}\n')

    with scripted(refuse_plainly) as server, pytest.raises(Unreachable, match="it does not speak TLS"):
        client(folder, server).ping()


def test_a_key_without_its_certificate_is_a_mistake():
    with pytest.raises(ValueError, match="tls_key needs tls_cert"):
        Client(tls_key="x.pem")


def test_nobody_there(folder):
    with pytest.raises(Unreachable):
        Client(port=free_port(), tls=True, timeout_s=0.3).ping()
