import pytest

from broadcastd.sandbox.tokens import Tokens

NOW = 1_700_000_000.0


@pytest.fixture
def tokens():
    return Tokens(7200, NOW, first="first")


def test_the_first_token_ages(tokens):
    assert tokens.current == "first"
    assert tokens.check("first", NOW + 7199) == 0
    assert tokens.check("first", NOW + 7200) == 42001


@pytest.mark.parametrize(
    ("text", "errcode"),
    [("", 41001), ("unknown", 40001), ("with space", 40014), ("中文", 40014), ("x" * 513, 40014)],
)
def test_other_tokens(tokens, text, errcode):
    assert tokens.check(text, NOW) == errcode


def test_a_classic_token_outlives_its_successor_by_five_minutes(tokens):
    second = tokens.renew(NOW + 10)
    assert tokens.current == second.text
    assert tokens.check("first", NOW + 309) == 0
    assert tokens.check("first", NOW + 310) == 40001
    assert tokens.check(second.text, NOW + 310) == 0


def test_two_more_calls_do_not_prolong_the_former(tokens):
    tokens.renew(NOW)
    tokens.renew(NOW + 200)
    assert tokens.check("first", NOW + 300) == 40001


def test_the_stable_token_stays_the_same_until_its_last_minutes(tokens):
    token = tokens.stable(NOW, force=False)
    assert tokens.stable(NOW + 6900, force=False) is token
    renewed = tokens.stable(NOW + 6901, force=False)
    assert renewed is not token
    assert tokens.check(token.text, NOW + 7199) == 0
    assert tokens.check(token.text, NOW + 7200) == 42001


def test_stable_and_classic_do_not_touch_each_other(tokens):
    token = tokens.stable(NOW, force=False)
    tokens.renew(NOW)
    tokens.stable(NOW, force=True)
    assert tokens.check("first", NOW + 299) == 0
    assert tokens.check(token.text, NOW) == 40001


def test_forcing_is_limited_to_every_30_seconds(tokens):
    first = tokens.stable(NOW, force=True)
    second = tokens.stable(NOW + 1, force=True)
    assert second is not first
    assert tokens.check(first.text, NOW + 1) == 40001
    assert tokens.stable(NOW + 30, force=True) is second
    assert tokens.stable(NOW + 31, force=True) is not second


def test_forcing_is_limited_to_20_a_day(tokens):
    tokens.stable(NOW, force=False)
    given = [tokens.stable(NOW + 30 * number, force=True).text for number in range(1, 25)]
    assert len(set(given)) == 20


def test_short_lives_for_tests():
    tokens = Tokens(10, NOW)
    token = tokens.stable(NOW, force=False)
    assert tokens.stable(NOW + 4, force=False) is token
    assert tokens.stable(NOW + 6, force=False) is not token


def test_expired_and_invalidated_by_hand(tokens):
    tokens.expire(NOW)
    assert tokens.check("first", NOW) == 42001
    fresh = tokens.renew(NOW)
    assert tokens.check(fresh.text, NOW) == 0
    tokens.invalidate(NOW)
    assert tokens.check(fresh.text, NOW) == 40001
    assert tokens.stable(NOW, force=False).text != fresh.text
