import pytest

from broadcastd.sandbox import Options, openid
from broadcastd.sandbox.followers import Followers, Interaction, Standing

NOW = 1_700_000_000.0
HOUR_S = 3600.0


def followers(**options):
    return Followers(Options(**options), NOW)


def spend_all(people, row, now=NOW):
    return [people.spend(row, now) for _ in range(6)]


def test_five_messages_a_window():
    people = followers(inside=1)
    assert spend_all(people, people.row(openid(0), NOW)) == [0, 0, 0, 0, 0, 45047]


def test_the_window_closes_after_48_hours():
    people = followers(inside=1)
    assert people.spend(0, NOW + 48 * HOUR_S - 1) == 0
    assert people.spend(0, NOW + 48 * HOUR_S) == 45015


def test_a_closed_window_is_said_before_a_used_allowance():
    people = followers(inside=1)
    spend_all(people, 0)
    assert people.spend(0, NOW + 48 * HOUR_S) == 45015


def test_outside_the_window():
    people = followers(inside=1, outside=1)
    row = people.row(openid(1), NOW)
    assert people.follows(row)
    assert people.spend(row, NOW) == 45015


def test_a_message_begins_window_and_count_anew():
    people = followers(inside=1)
    spend_all(people, 0)
    people.interact(0, Interaction.MESSAGE, NOW + 40 * HOUR_S)
    assert spend_all(people, 0, NOW + 87 * HOUR_S) == [0, 0, 0, 0, 0, 45047]


@pytest.mark.parametrize("kind", [Interaction.CLICK, Interaction.SCAN, Interaction.FOLLOW])
def test_the_short_window_is_three_messages_within_a_minute(kind):
    people = followers(outside=1)
    people.interact(0, kind, NOW)
    assert spend_all(people, 0, NOW + 59) == [0, 0, 0, 45047, 45047, 45047]
    assert people.spend(0, NOW + 60) == 45015


def test_a_click_within_a_long_window_does_not_shorten_it():
    people = followers(inside=1)
    people.interact(0, Interaction.CLICK, NOW + HOUR_S)
    assert spend_all(people, 0, NOW + 47 * HOUR_S) == [0, 0, 0, 0, 0, 45047]


def test_no_limit():
    people = followers(inside=1, allowance=0)
    people.interact(0, Interaction.MESSAGE, NOW)
    assert {people.spend(0, NOW) for _ in range(1000)} == {0}


def test_no_limit_is_not_lost_by_a_click():
    people = followers(inside=1, allowance=0)
    people.interact(0, Interaction.CLICK, NOW)
    assert {people.spend(0, NOW) for _ in range(10)} == {0}


def test_whoever_left_may_follow_again():
    people = followers(unfollowed=1)
    assert people.standing(0) is Standing.LEFT
    people.interact(0, Interaction.FOLLOW, NOW)
    assert people.follows(0)
    people.leave(0)
    assert not people.follows(0)


def test_anyone_is_inside_when_open():
    people = followers()
    row = people.row("o-of-another-making", NOW)
    assert people.name(row) == "o-of-another-making"
    assert people.row("o-of-another-making", NOW) == row
    assert spend_all(people, row) == [0, 0, 0, 0, 0, 45047]


def test_others_are_strangers_when_followers_are_numbered():
    people = followers(inside=2)
    assert people.standing(people.row(openid(2), NOW)) is Standing.STRANGER
    assert people.name(people.row(openid(2), NOW)) == openid(2)


def test_numbered_and_open():
    people = followers(outside=1, open=True)
    assert people.spend(people.row(openid(0), NOW), NOW) == 45015
    assert people.spend(people.row(openid(1), NOW), NOW) == 0


def test_a_million_have_rows_without_a_table():
    people = followers(inside=1_000_000)
    assert people.row(openid(999_999), NOW) == 999_999
    assert people.name(999_999) == openid(999_999)


@pytest.mark.parametrize(
    "wrong",
    [{"inside": -1}, {"allowance": -1}, {"port": 70_000}, {"expires_in_s": 0}, {"unfollowed_errcode": 1}],
)
def test_wrong_options_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Options(**wrong)
