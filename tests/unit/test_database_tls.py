"""What a database's url says of TLS, and what is said of one that says nothing."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from broadcastd import database_tls
from broadcastd.precautions import precautions
from broadcastd.settings import AccountSettings, AudienceSettings, LedgerSettings, Settings


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("tls=yes", "tls=yes; accepted: off, on, verify"),
        ("tls=on&tls=off", "stands twice"),
        ("tls_ca=ca.pem", "need tls=on or tls=verify"),
        ("tls=on&tls_ca=ca.pem", "with tls=verify only"),
        ("tls=verify&tls_key=k.pem", "tls_key needs tls_cert"),
    ],
)
def test_what_a_url_cannot_ask_for(query: str, says: str) -> None:
    for section in (AudienceSettings, LedgerSettings):
        with pytest.raises(ValidationError) as refused:
            section(url=f"mysql://u:s3cret@db/site?{query}")
        assert says in refused.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("mysql://u:p@db.shop.example/site", True),
        ("mysql://u:p@10.0.0.3:3306/site?charset=utf8mb4", True),
        ("mysql://u:p!x@db/site?tls=on", False),
        ("mysql://u:p@db/site?tls=verify", False),
        ("mysql://u:p@db/site?tls=off", True),
        ("mysql://u:p@127.0.0.1/site", False),
        ("mysql://u:p@[::1]:3306/site", False),
        ("mysql://u:p@localhost/site", False),
        ("mysql://u:p@localhost/site?unix_socket=/run/m.sock", False),
        ("sqlite:///site.db", False),
    ],
)
def test_which_database_is_spoken_to_in_the_clear(url: str, clear: bool) -> None:
    assert database_tls.is_in_the_clear(url) is clear
    account = AccountSettings(audience=AudienceSettings(url=url), channels=("custom",))
    lines = precautions(Settings(accounts={"default": account}))
    assert any("accounts.default.audience.url" in line for line in lines) is clear
    assert "u:p" not in "".join(lines)


def test_files_of_a_url_are_the_settings_files_neighbours() -> None:
    url = "mysql://u:p/?x@db/site?charset=utf8mb4&tls=verify&tls_ca=a%20b.pem"
    there = database_tls.without_files_relative_to(url, Path("/etc/broadcastd"))
    assert there == ("mysql://u:p/?x@db/site?charset=utf8mb4&tls=verify&tls_ca=/etc/broadcastd/a%20b.pem")
    plain = "mysql://u:p@db/site?tls=on"
    assert database_tls.without_files_relative_to(plain, Path("/etc")) == plain


def test_a_password_in_a_ledgers_query_is_not_shown() -> None:
    shown = LedgerSettings(url="mysql://db/site?password=s3cret&tls=on").model_dump_json()
    assert "s3cret" not in shown
    assert "tls=on" in shown
