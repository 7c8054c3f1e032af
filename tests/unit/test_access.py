import pytest
from pydantic import ValidationError

from broadcastd.access import EVERYTHING, Access, Keyring, Right
from broadcastd.server_settings import ServerSettings
from broadcastd.wire.desk import keyring_of

SHOP = Access("shop", frozenset({Right.SEND}), frozenset({"default"}))


def test_without_tokens_everybody_may_do_everything():
    assert Keyring({}).access(None) is EVERYTHING
    assert Keyring({}).access("whatever") is EVERYTHING


@pytest.mark.parametrize("shown", [None, "", 17, "s", "shopp", "SHOP", "shop\ud800", ["shop"], b"shop"])
def test_what_is_no_token_opens_nothing(shown):
    assert Keyring({"shop": SHOP}).access(shown) is None


def test_each_token_is_good_for_its_own():
    keyring = Keyring({"shop": SHOP, "對": EVERYTHING})
    assert keyring.access("shop") is SHOP
    assert keyring.access("對") is EVERYTHING


def test_accounts_are_all_or_those_named():
    assert EVERYTHING.covers("anything")
    assert SHOP.covers("default")
    assert not SHOP.covers("other")


def test_the_settings_make_the_keyring():
    settings = ServerSettings.model_validate(
        {"token": "master", "tokens": {"shop": {"token": "pay", "rights": ["send"], "accounts": ["default"]}}}
    )
    keyring = keyring_of(settings)
    assert keyring.access("master") is EVERYTHING
    assert keyring.access("pay") == SHOP
    assert settings.own_token == "master"


def test_the_commands_show_the_token_that_may_do_most():
    tokens = {
        "shop": {"token": "a", "rights": ["send"]},
        "boss": {"token": "b", "rights": ["send", "read", "control"]},
        "page": {"token": "c", "rights": ["read"]},
        "one": {"token": "d", "rights": ["send", "read", "control"], "accounts": ["default"]},
    }
    assert ServerSettings.model_validate({"tokens": tokens}).own_token == "b"
    assert ServerSettings().own_token is None


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ({"a": {"token": ""}}, "is empty"),
        ({"a": {"token": "x", "rights": []}}, "accepted: one or more of send, read, control"),
        ({"a": {"token": "x", "rights": ["all"]}}, "send"),
        ({"a": {"token": "x"}, "b": {"token": "x"}}, "the same"),
    ],
)
def test_tokens_that_cannot_be_meant(tokens, words):
    with pytest.raises(ValidationError, match=words) as caught:
        ServerSettings.model_validate({"tokens": tokens})
    assert "input_value='x'" not in str(caught.value)


def test_a_named_token_is_enough_beyond_loopback():
    assert ServerSettings.model_validate({"host": "0.0.0.0", "tokens": {"a": {"token": "x"}}}).is_guarded
