"""MySQL over TLS, for the audience and for the ledger, against servers that have it and one that has not."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from bed.certificates import Authority
from bed.mariadb import PrivateMariaDb, folder_of_servers, private_mariadb

from broadcastd.audiences.engine import Database, open_database
from broadcastd.clock import SystemClock
from broadcastd.errors import AudienceUnavailableError, LedgerUnavailableError, SettingsError
from broadcastd.ledgers.mysql import MysqlLedger
from broadcastd.ledgers.opening_changes import Guard
from broadcastd.settings import AudienceSettings


class WithTls:
    """A server with a certificate for 127.0.0.1 by a CA, and another CA that nobody used."""

    def __init__(self, folder: Path, server: PrivateMariaDb, authority: Authority) -> None:
        self.folder = folder
        self.server = server
        self.ca = authority.ca
        self.other_ca = Authority(folder, "other").ca


@pytest.fixture(scope="module")
def tls() -> Iterator[WithTls]:
    with tempfile.TemporaryDirectory(prefix="bd-", dir=folder_of_servers()) as made:
        folder = Path(made)
        authority = Authority(folder)
        pair = authority.issue("server", "127.0.0.1")
        options = [f"--ssl-cert={pair.cert}", f"--ssl-key={pair.key}", "--require-secure-transport=ON"]
        with private_mariadb(folder, options=options) as server:
            yield WithTls(folder, server, authority)


@asynccontextmanager
async def audience(url: str) -> AsyncIterator[Database]:
    database = open_database(AudienceSettings(url=url))
    try:
        yield database
    finally:
        await database.close()


async def cipher_of(database: Database) -> str:
    async with database.connection() as connection:
        row = (await connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'")).one()
        return str(row[1])


async def test_an_encrypted_audience(tls: WithTls) -> None:
    for query in ("tls=on", f"tls=verify&tls_ca={tls.ca}"):
        async with audience(f"{tls.server.url}?{query}") as database:
            assert "TLS" in await cipher_of(database)


async def test_another_ca_and_another_name_are_not_accepted(tls: WithTls) -> None:
    async with audience(f"{tls.server.url}?tls=verify&tls_ca={tls.other_ca}") as database:
        with pytest.raises(AudienceUnavailableError, match="its certificate is not accepted: unable to get"):
            await cipher_of(database)
    elsewhere = tls.server.url.replace("127.0.0.1", "localhost")
    async with audience(f"{elsewhere}?tls=verify&tls_ca={tls.ca}") as database:
        with pytest.raises(AudienceUnavailableError, match="not accepted: Hostname mismatch"):
            await cipher_of(database)


async def test_the_system_does_not_know_a_private_ca(tls: WithTls) -> None:
    async with audience(f"{tls.server.url}?tls=verify") as database:
        with pytest.raises(AudienceUnavailableError, match="certificate is not accepted"):
            await cipher_of(database)


async def test_a_server_without_tls_gets_no_password(mariadb: PrivateMariaDb) -> None:
    async with audience(f"{mariadb.url}?tls=on") as database:
        with pytest.raises(AudienceUnavailableError, match="it does not speak TLS, which tls in its url"):
            await cipher_of(database)


def test_a_ca_that_is_none_is_found_before_anything_is_asked(tls: WithTls) -> None:
    nothing = tls.folder / "nothing.pem"
    with pytest.raises(SettingsError, match=r"tls_ca of a database: .*nothing.pem cannot be used: No such"):
        open_database(AudienceSettings(url=f"{tls.server.url}?tls=verify&tls_ca={nothing}"))
    text = tls.folder / "text.pem"
    text.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"text\.pem cannot be used: it is no PEM file"):
        open_database(AudienceSettings(url=f"{tls.server.url}?tls=verify&tls_ca={text}"))


async def test_an_encrypted_ledger(tls: WithTls, tmp_path: Path) -> None:
    url = tls.server.url_of(tls.server.new_database())
    guard = Guard(None, tmp_path, timedelta(0))
    async with MysqlLedger(f"{url}?tls=verify&tls_ca={tls.ca}", SystemClock(), guard) as ledger:
        seen = tls.server.rows("SELECT count(*) FROM information_schema.processlist WHERE user = 'site'")
        assert seen[0][0] >= 1
        assert not ledger.trouble
    with pytest.raises(LedgerUnavailableError, match="cannot be opened: its certificate is not accepted"):
        async with MysqlLedger(f"{url}?tls=verify&tls_ca={tls.other_ca}", SystemClock(), guard):
            pass
    with pytest.raises(LedgerUnavailableError, match="cannot be opened"):  # the server demands TLS
        async with MysqlLedger(url, SystemClock(), guard):
            pass
