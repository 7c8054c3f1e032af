"""TLS of the ports that broadcastd listens on, and of its own commands, which talk to them."""

import os
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self

import structlog

from broadcastd.errors import SettingsError

log = structlog.get_logger()

HANDSHAKE_S = 10.0
"""How long a client may take to agree on keys."""
SOON_DAYS = 14
"""A certificate that ends within so many days is warned of."""
LOOK_S = 1.0
"""So often, at most, a port looks whether its certificate's files are others."""


class TlsSettings(Protocol):
    """The keys of a section whose port may have TLS."""

    @property
    def tls_cert(self) -> str:
        """PEM: the certificate, and those between it and the CA's."""

    @property
    def tls_key(self) -> str:
        """PEM: its key; empty: it is in the certificate's file."""

    @property
    def tls_client_ca(self) -> str:
        """PEM: whose certificates clients must show; empty: they need none."""


def check_files(settings: TlsSettings) -> None:
    """Raise ValueError when a file is set that is of no use without another."""
    for name in ("tls_key", "tls_client_ca"):
        if getattr(settings, name) and not settings.tls_cert:
            raise ValueError(f"{name} needs tls_cert beside it: without a certificate there is no TLS")


def server_context(settings: TlsSettings, section: str = "server") -> ssl.SSLContext | None:
    """What new connections are encrypted with; None: they are not.

    Reads the files anew each time. Raises SettingsError, with the key and the file, for what cannot be used:
    missing, no certificate, another's key, readable by nobody, expired.
    """
    if not settings.tls_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_pair(context, settings, section)
    if settings.tls_client_ca:
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except (OSError, ValueError) as error:
            raise _unusable(f"{section}.tls_client_ca", settings.tls_client_ca, error) from None
        context.verify_mode = ssl.CERT_REQUIRED
    _check_end(settings, section)
    return context


def _check_end(settings: TlsSettings, section: str) -> None:
    try:
        ends_at = certificate_ends_at(settings.tls_cert)
    except (OSError, ValueError) as error:
        raise _unusable(f"{section}.tls_cert", settings.tls_cert, error) from None
    if ends_at <= datetime.now(UTC):
        raise SettingsError(
            f"{section}.tls_cert: {settings.tls_cert} has expired on {ends_at:%Y-%m-%d %H:%M} UTC"
        )


def _check_own(settings: TlsSettings) -> None:
    """Of a command: whoever may not read the key still sees whether the certificate has expired."""
    try:
        with Path(settings.tls_key or settings.tls_cert).open("rb"):
            pass
    except PermissionError:
        _check_end(settings, "server")
    except OSError:
        server_context(settings)  # says which file it is
    else:
        server_context(settings)


class FollowingContext(ssl.SSLContext):
    """What a port's connections are encrypted with, by its files as they are when each of them comes.

    Files that cannot be used change nothing: the last good ones stay in force, and the log says so once.
    """

    _settings: TlsSettings
    _section: str
    _now_s: Callable[[], float]
    _good: ssl.SSLContext
    _seen: tuple[object, ...]
    _look_at_s: float

    @classmethod
    def of(
        cls, settings: TlsSettings, section: str = "server", now_s: Callable[[], float] = time.monotonic
    ) -> Self | None:
        """None: no TLS. Raises SettingsError, as `server_context`."""
        if not settings.tls_cert:
            return None
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made._settings, made._section, made._now_s = settings, section, now_s
        made.renew()
        return made

    def renew(self) -> None:
        """Look now. Raises SettingsError: then nothing is changed."""
        seen = _stamps(self._settings)
        good = server_context(self._settings, self._section)
        assert good is not None
        self._good, self._seen, self._look_at_s = good, seen, self._now_s() + LOOK_S

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        """See ssl. Both the loop's TLS and ours begin a connection with it."""
        if self._now_s() >= self._look_at_s:
            self._look()
        return self._good.wrap_bio(*args, **more)

    def _look(self) -> None:
        self._look_at_s = self._now_s() + LOOK_S
        seen = _stamps(self._settings)
        if seen == self._seen:
            return
        try:
            self.renew()
        except (SettingsError, OSError, ValueError) as error:
            self._seen = seen  # said once, until they are others again
            log.warning("certificate_not_taken", why=str(error), stays="the one before")
        else:
            log.info("certificate_taken", file=self._settings.tls_cert)


def _stamps(settings: TlsSettings) -> tuple[object, ...]:
    """What tells whether files are others than before."""
    stamps: list[object] = []
    for file in (settings.tls_cert, settings.tls_key, settings.tls_client_ca):
        try:
            there = os.stat(file) if file else None
        except OSError as error:
            stamps.append(error.errno)
        else:
            stamps.append(there and (there.st_ino, there.st_mtime_ns, there.st_size))
    return tuple(stamps)


def client_context(ca: str = "", cert: str = "", key: str = "", *, check_name: bool) -> ssl.SSLContext:
    """What a command trusts: the certificates in `ca` alone, be they a CA's or the server's own; without it,
    the system's CAs. `cert` and `key` are shown to a server that demands it. Raises SettingsError.
    """
    context = ssl.create_default_context() if not ca else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = check_name
    if ca:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(ca)
        except (OSError, ValueError) as error:
            raise _unusable("server.tls_cert (or --tls-ca)", ca, error) from None
    if cert:
        try:
            context.load_cert_chain(cert, key or None, password="")
        except (OSError, ValueError) as error:
            raise _unusable("the certificate to show (--tls-cert)", cert, error) from None
    return context


def certificate_ends_at(path: str) -> datetime:
    """Until when the first certificate of a PEM file is good. Raises OSError, ValueError."""
    from cryptography import x509  # noqa: PLC0415 - megabytes that only TLS needs

    return x509.load_pem_x509_certificate(Path(path).read_bytes()).not_valid_after_utc


def ends_soon(settings: TlsSettings, now: datetime) -> str:
    """A warning when the certificate ends soon; else nothing. The files were looked at before."""
    if not settings.tls_cert:
        return ""
    days = (certificate_ends_at(settings.tls_cert) - now).days
    return f"{settings.tls_cert} expires in {days} days" if days < SOON_DAYS else ""


def _load_pair(context: ssl.SSLContext, settings: TlsSettings, section: str) -> None:
    for name in ("tls_cert", "tls_key"):
        if there := getattr(settings, name):
            try:
                with Path(there).open("rb"):
                    pass
            except OSError as error:
                raise _unusable(f"{section}.{name}", there, error) from None
    try:
        # An empty password: a key that wants one must not ask for it on the terminal.
        context.load_cert_chain(settings.tls_cert, settings.tls_key or None, password="")
    except (OSError, ValueError) as error:
        raise _unusable(f"{section}.tls_cert", settings.tls_cert, error) from None


def _unusable(key: str, path: str, error: Exception) -> SettingsError:
    reason = getattr(error, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        why = "it is not the certificate of this key (tls_key)"
    elif isinstance(error, ssl.SSLError):
        why = "it, or its key, is no PEM file of the right kind, or the key has a password"
    else:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
    return SettingsError(f"{key}: {path} cannot be used: {why}")


def is_none(error: BaseException) -> bool:
    """Whether a handshake failed because what came was something else than TLS."""
    reason = getattr(error, "reason", None)
    return reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL")


def trouble(error: BaseException) -> str:
    """What a failed handshake was about, in plain words, from a server's view."""
    reason = getattr(error, "reason", None) or ""
    if is_none(error):
        return "it does not speak TLS"
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it shows no certificate, which server.tls_client_ca demands"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    if "ALERT" in reason:
        return f"it does not accept this side: {reason.partition('ALERT_')[2].lower().replace('_', ' ')}"
    if isinstance(error, ConnectionError | TimeoutError):
        return "it ended the connection before keys were agreed on, or took too long"
    return f"TLS fails: {(reason or str(error)).lower().replace('_', ' ')}"


def own_context(
    settings: TlsSettings, ca: str = "", cert: str = "", key: str = "", *, check_name: bool = False
) -> ssl.SSLContext | None:
    """As `client_context`, for whoever has the daemon's settings: what is not given is taken from them.

    The daemon of these settings is known by its very certificate. None without TLS. Raises SettingsError,
    with the key and the file, where the settings' own files are of no use: no daemon serves these.
    """
    if not ca and settings.tls_cert:
        _check_own(settings)
    ca = ca or settings.tls_cert
    if not ca:
        return None
    if settings.tls_client_ca and not cert and os.access(settings.tls_key or settings.tls_cert, os.R_OK):
        cert, key = settings.tls_cert, settings.tls_key  # good enough, if the same CA has issued it
    return client_context(ca, cert, key, check_name=check_name)
