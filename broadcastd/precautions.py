"""What works, and should not be left as it is: said at the start, by `config check` and by `doctor`."""

from datetime import UTC, datetime
from pathlib import Path

from broadcastd import database_tls, secret_files, tls
from broadcastd.errors import SettingsError
from broadcastd.settings import Settings
from broadcastd.settings_review import PLACEHOLDER

TOKEN_CHARS = 16
"""A shorter token can be guessed."""


def precautions(settings: Settings) -> list[str]:
    """One line each, beginning with the key it is about. Raises SettingsError for unusable TLS."""
    if wrong := unusable_tls(settings):
        raise SettingsError("\n".join(wrong))
    return [*_port(settings), *weak(settings), *_databases(settings)]


def unusable_tls(settings: Settings) -> list[str]:
    """The ports' certificates and keys that no connection can be encrypted with: which, and why."""
    found = []
    for section, port in (("server", settings.server), ("http", settings.http)):
        try:
            tls.server_context(port, section)
        except SettingsError as error:
            found.append(str(error))
    return found


def weak(settings: Settings) -> list[str]:
    """Certificates that end soon, and tokens that can be guessed. What is unusable is not told here."""
    server = settings.server
    tokens = {"server.token": server.token} | {
        f"server.tokens.{name}.token": one.token for name, one in server.tokens.items()
    }
    found = [
        f"{key}: less than {TOKEN_CHARS} characters can be guessed; make a longer token (docs/security.md)"
        for key, token in tokens.items()
        if token is not None and len(token.get_secret_value()) < TOKEN_CHARS
    ]
    for section, port in (("server", server), ("http", settings.http)):
        if soon := tls.ends_soon(port, datetime.now(UTC)):
            found.append(f"{section}.tls_cert: {soon}")
    return found


def _port(settings: Settings) -> list[str]:
    server = settings.server
    found = []
    if server.is_beyond_loopback and not server.tls_cert:
        found.append(
            f"server.tls_cert: broadcastd listens on {server.host} without TLS: tokens and posts can be"
            " read on the way; set tls_cert and tls_key"
        )
    key = server.tls_key or server.tls_cert
    if key and (verbs := secret_files.open_to_others(Path(key))):
        found.append(f"server.tls_key: others on this machine may {verbs} {key}; `chmod o-rwx {key}`")
    return found


def _databases(settings: Settings) -> list[str]:
    urls = {"ledger.url": settings.ledger.url}
    urls |= {f"accounts.{name}.audience.url": one.audience.url for name, one in settings.accounts.items()}
    for url in urls.values():
        database_tls.context(url.get_secret_value())
    return [
        f"{key}: the database is on another machine and the way to it is not encrypted: the password and all"
        " openids can be read on it; add ?tls=verify (and &tls_ca=FILE for a private CA), or at least ?tls=on"
        for key, url in urls.items()
        if database_tls.is_in_the_clear(url.get_secret_value()) and PLACEHOLDER not in url.get_secret_value()
    ]
