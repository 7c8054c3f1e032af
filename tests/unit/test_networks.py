"""Who may come in, and how often that is worth a line."""

import pytest
from pydantic import ValidationError

from broadcastd.networks import MOST_NOTED, Allowed, Notes, neighbourhood
from broadcastd.server_settings import ServerSettings


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("127.0.0.1", True),
        ("10.1.255.3", True),
        ("10.2.0.1", False),
        ("::ffff:10.1.0.9", True),
        ("::ffff:10.2.0.9", False),
        ("fe80::1%eth0", True),
        ("::1", False),
        ("", True),
    ],
)
def test_who_may_come_in(address: str, admitted: bool) -> None:
    allowed = Allowed(["127.0.0.0/8", "10.1.0.0/16", "fe80::/10"])
    assert allowed.admits(address) is admitted
    assert Allowed([]).admits(address)


@pytest.mark.parametrize(
    ("network", "says"),
    [("10.1.0.1/16", "accepted: 10.1.0.0/16"), ("lan", "accepted: an address, or one like 10.1.0.0/16")],
)
def test_what_is_no_network_is_said_at_start(network: str, says: str) -> None:
    with pytest.raises(ValidationError) as error:
        ServerSettings(allow=("127.0.0.1", network))
    assert says in str(error.value)


@pytest.mark.parametrize("key", ["tls_key", "tls_client_ca"])
def test_a_file_of_tls_without_a_certificate_is_a_mistake(key: str) -> None:
    with pytest.raises(ValidationError) as error:
        ServerSettings(**{key: "x.pem"})
    assert f"{key} needs tls_cert beside it" in str(error.value)


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_who_has_one_address_of_ipv6_has_many(address: str, whose: str) -> None:
    assert neighbourhood(address) == whose


def test_a_line_a_minute_and_address() -> None:
    notes = Notes()
    assert notes.note("a", 0) == 0
    assert notes.note("a", 30) is None
    assert notes.note("b", 31) == 0
    assert notes.note("a", 59) is None
    assert notes.note("a", 61) == 2
    assert notes.note("a", 62) is None


def test_several_lines_a_minute() -> None:
    notes = Notes(lines=2)
    assert [notes.note("a", second) for second in range(4)] == [0, 0, None, None]
    assert notes.note("a", 61) == 2


def test_a_flood_of_addresses_is_not_remembered_for_ever() -> None:
    notes = Notes()
    for number in range(3 * MOST_NOTED):
        assert notes.note(str(number), 0) == 0
    assert len(notes._noted) == MOST_NOTED
