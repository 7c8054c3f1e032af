"""Who gets in by the HTTP port: machines, and no page that somebody happens to look at."""

import dataclasses

import pytest

from broadcastd.ops.door import Knock, closed_to, names_of

NAMES = names_of("127.0.0.1", ["Pay.example.com"])
CURL = Knock(["127.0.0.1:9091"], None, None, "http", "127.0.0.1")


def status(**changes: object) -> int | None:
    closed = closed_to(dataclasses.replace(CURL, **changes), NAMES)  # type: ignore[arg-type]
    return None if closed is None else closed.status


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:9091", "localhost:1", "LOCALHOST", "[::1]:9091", "[::1]"),
        *("pay.example.com", "PAY.example.com:443"),
    ],
)
def test_known_names_get_in(host):
    assert status(hosts=[host]) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:9091", "127.0.0.1.evil.example", "localhost.evil.example", "10.1.2.3",
     "[::2]", "pay.example.com.", "["],
)  # fmt: skip
def test_a_name_that_somebody_pointed_here_is_none_of_ours(host):
    """DNS rebinding: the browser believes to talk to its page's own server."""
    assert status(hosts=[host]) == 421


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:9091.evil.example", "evil.example:127.0.0.1", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:٣",
     "127.0.0.1:123456", "localhost:80:80", "[::1]evil.example", "[::1]:x"],
)  # fmt: skip
def test_what_stands_as_a_port_is_one(host):
    assert status(hosts=[host]) == 400


def test_the_address_that_was_connected_to_is_a_name():
    assert status(hosts=["10.1.2.3:9091"], address="10.1.2.3") is None
    assert status(hosts=["[fe80::1]:9091"], address="fe80::1%eth0") is None


@pytest.mark.parametrize("hosts", [[], ["127.0.0.1", "127.0.0.1"], ["127.0.0.1", "evil.example"]])
def test_a_request_has_one_host(hosts):
    assert status(hosts=hosts) == 400


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://evil.example", "https://127.0.0.1:9091", "http://127.0.0.1:8080", "http://127.0.0.1",
     "file://", "http://localhost:9091"],
)  # fmt: skip
def test_a_foreign_origin_is_refused(origin):
    assert status(origin=origin) == 403


def test_an_own_origin_is_no_foreign_one():
    assert status(origin="http://127.0.0.1:9091") is None
    assert status(origin="https://127.0.0.1:9091", scheme="https") is None


@pytest.mark.parametrize(
    ("site", "wanted"), [("cross-site", 403), ("same-site", 403), ("none", None), ("same-origin", None)]
)
def test_what_a_browser_says_of_the_site(site, wanted):
    assert status(site=site) == wanted


def test_a_wildcard_is_no_name():
    assert names_of("0.0.0.0", []) == names_of("::", []) == names_of("127.0.0.1", [])
    assert "10.0.0.9" in names_of("10.0.0.9", [])
