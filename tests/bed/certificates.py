"""A private CA of the tests, and certificates of it: right, expired, for another name, for clients."""

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """One CA. `ca` is its own certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = _name(f"{name} of the tests")
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(self._name, self._key, 30).add_extension(x509.BasicConstraints(True, 0), True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._own = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = builder.add_extension(usage, True).add_extension(self._own, False)
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def issue(self, name: str, *hosts: str, days: int = 30, ends: datetime.datetime | None = None) -> Pair:
        """A certificate for these names and addresses; `days` below 0: expired so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key, days, ends)
        builder = builder.add_extension(x509.BasicConstraints(False, None), True)
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._own)
        builder = builder.add_extension(authority, False)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(host) for host in hosts]), False
            )
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM))
        pair.key.write_bytes(
            key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        pair.key.chmod(0o600)
        return pair

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        days: int,
        ends: datetime.datetime | None = None,
    ) -> x509.CertificateBuilder:
        ends = ends or datetime.datetime.now(datetime.UTC) + days * DAY
        return x509.CertificateBuilder(
            self._name, subject, key.public_key(), x509.random_serial_number(), ends - 60 * DAY, ends
        )


_PEM = serialization.Encoding.PEM


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def serving(pair: Pair, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """For a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.maximum_version = newest
    return context
