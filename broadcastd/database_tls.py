"""TLS to a MySQL database, as its url asks: `mysql://…/site?tls=verify&tls_ca=FILE`. No driver in here."""

import ipaddress
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote

from broadcastd.errors import SettingsError

LEVELS = ("off", "on", "verify")
"""Not encrypted; encrypted, whoever answers; only with the server that is meant."""
FILES = ("tls_ca", "tls_cert", "tls_key")
KEYS = ("tls", *FILES)
# Taken apart as SQLAlchemy does: a password may hold a / or a ?.
_PARTS = re.compile(r"(mysql://(?:[^:/@]*(?::[^@]*)?@)?(\[[^\]]*\]|[^/:?]*)[^/?]*/?[^?]*)(?:\?(.*))?")


def check(url: str) -> None:
    """Raise ValueError, in plain words, for what `tls` and its files in a url cannot be."""
    pairs = _pairs(url)
    names = [name for name, _ in pairs if name in KEYS]
    given = dict(pairs)
    level = given.get("tls", "off")
    if len(set(names)) < len(names):
        raise ValueError("a tls key stands twice in it")
    if level not in LEVELS:
        raise ValueError(f"tls={level}; accepted: {', '.join(LEVELS)}")
    if level == "off" and set(FILES) & given.keys():
        raise ValueError("tls_ca, tls_cert and tls_key need tls=on or tls=verify beside them")
    if "tls_ca" in given and level != "verify":
        raise ValueError("tls_ca is looked at with tls=verify only")
    if "tls_key" in given and "tls_cert" not in given:
        raise ValueError("tls_key needs tls_cert beside it")


def without_files_relative_to(url: str, base: Path) -> str:
    """The same url; its certificates are no longer looked for where the process happens to be."""
    pairs = _pairs(url)
    if not any(name in FILES for name, _ in pairs):
        return url
    place = _place(url)[0]
    shown = [(name, str(base / value) if name in FILES else value) for name, value in pairs]
    return f"{place}?" + "&".join(f"{quote(name)}={quote(value)}" for name, value in shown)


def is_in_the_clear(url: str) -> bool:
    """Whether a database on another machine is spoken to without encryption."""
    if not url.startswith("mysql:"):
        return False
    given = dict(_pairs(url))
    return given.get("tls", "off") == "off" and "unix_socket" not in given and not _is_here(_place(url)[1])


def context(url: str) -> ssl.SSLContext | None:
    """What the driver is to use; None: no TLS. Raises SettingsError when a certificate cannot be used."""
    given = dict(_pairs(url))
    if given.get("tls", "off") == "off":
        return None
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if given["tls"] != "verify":
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    _load(made, given)
    return made


def _load(made: ssl.SSLContext, given: Mapping[str, str]) -> None:
    ca, certificate = given.get("tls_ca"), given.get("tls_cert")
    try:
        if ca:
            made.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise SettingsError(f"tls_ca of a database: {ca} cannot be used: {_of_a_file(error)}") from None
    try:
        if certificate:
            # With a password: a key that wants one must not ask for it on the terminal.
            made.load_cert_chain(certificate, given.get("tls_key"), password="")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"tls_cert of a database: {certificate} and its key cannot be used: {_of_a_file(error)}"
        ) from None


def _of_a_file(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "it is no PEM file of the right kind, or the key is another one's"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def trouble(error: BaseException | None) -> str:
    """What went wrong with TLS, when that is what `error` or one of its causes is about; else nothing."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
        if isinstance(error, ssl.SSLError):
            if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
                return "it does not speak TLS, which tls in its url demands"
            return f"TLS fails: {str(error.reason or error.args[-1]).lower().replace('_', ' ')}"
        error = error.__cause__
    return ""


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in ("", "localhost")


def _place(url: str) -> tuple[str, str]:
    parts = _PARTS.fullmatch(url)
    return (parts[1], parts[2]) if parts else (url, "")


def _pairs(url: str) -> list[tuple[str, str]]:
    parts = _PARTS.fullmatch(url)
    return parse_qsl(parts[3] or "", keep_blank_values=True) if parts else []
