"""What works, and should not be left as it is: said at the start, by `config check` and by `doctor`."""

from datetime import UTC, datetime
from pathlib import Path

from broadcastd import database_tls, secret_files, tls
from broadcastd.settings import Settings
from broadcastd.settings_review import PLACEHOLDER


def precautions(settings: Settings) -> list[str]:
    """One line each, beginning with the key it is about. Raises SettingsError for unusable TLS."""
    tls.server_context(settings.server)
    tls.server_context(settings.http, "http")
    return [*_port(settings), *_http(settings), *_databases(settings)]


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
    if soon := tls.ends_soon(server, datetime.now(UTC)):
        found.append(f"server.tls_cert: {soon}")
    return found


def _http(settings: Settings) -> list[str]:
    soon = tls.ends_soon(settings.http, datetime.now(UTC))
    return [f"http.tls_cert: {soon}"] if soon else []


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
