"""The crypto of pushes: WeChat's own examples, wechatpy in both directions, and what was tampered with."""

import base64

import pytest
from bed.pushes import AES_KEY, APP_ID, OTHER_AES_KEY, TOKEN
from hypothesis import given
from hypothesis import strategies as st
from wechatpy.crypto import PrpCrypto
from wechatpy.utils import check_signature

from broadcastd.callback.crypto import (
    Cipher,
    UndecipherableError,
    decrypt_with_any,
    is_signed,
    key_of,
    signature,
)

# https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
DOC_KEY, DOC_APP_ID = "A" * 43, "wxba5fad812f8e6fb9"
DOC_ENCRYPTED = (
    "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6"
    "JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4"
    "M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04="
)
DOC_TEXT = (
    b'{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714112445,'
    b'"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}'
)


def cipher(key: str = AES_KEY, app_id: str = APP_ID) -> Cipher:
    return Cipher(key_of(key), app_id)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("AAAAA", "1714037059", "486452656"), "899cf89e464efb63f54ddac96b0a0a235f53aa78"),
        (("AAAAA", "1714036504", "1514711492"), "f464b24fc39322e44b38aa78f5edd27bd1441696"),
        (("AAAAA", "1714112445", "415670741", DOC_ENCRYPTED), "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3"),
        (
            (
                "AAAAA", "1713424427", "415670741",
                "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==",
            ),
            "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1",
        ),
    ],
)  # fmt: skip
def test_signatures_of_wechats_own_examples(parts, expected):
    assert signature(*parts) == expected
    assert is_signed(expected, *parts)
    assert not is_signed(expected.upper(), *parts)
    assert not is_signed("", *parts)


def test_wechats_own_encrypted_example():
    assert cipher(DOC_KEY, DOC_APP_ID).decrypt(DOC_ENCRYPTED) == DOC_TEXT


def test_wechats_own_reply():
    """The answer of their example, decrypted: it was padded to 32 bytes."""
    encrypted = "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ=="
    text = b'{"demo_resp":"good luck"}'
    assert cipher(DOC_KEY, DOC_APP_ID).decrypt(encrypted) == text
    assert len(cipher(DOC_KEY, DOC_APP_ID).encrypt(text)) == len(encrypted)


@given(st.text(max_size=300))
def test_wechatpy_reads_what_is_encrypted_here(text):
    encrypted = cipher().encrypt(text.encode())
    assert PrpCrypto(key_of(AES_KEY)).decrypt(encrypted, APP_ID) == text


@given(st.text(max_size=300))
def test_what_wechatpy_encrypts_is_read_here(text):
    encrypted = PrpCrypto(key_of(AES_KEY)).encrypt(text, APP_ID)
    assert cipher().decrypt(encrypted.decode()) == text.encode()


@given(st.text(), st.text())
def test_wechatpy_agrees_on_signatures(timestamp, nonce):
    check_signature(TOKEN, signature(TOKEN, timestamp, nonce), timestamp, nonce)


@given(st.binary(max_size=5000))
def test_round_trip(text):
    assert cipher().decrypt(cipher().encrypt(text)) == text


def test_the_same_text_never_looks_the_same():
    assert cipher().encrypt(b"0") != cipher().encrypt(b"0")


@given(st.integers(min_value=0, max_value=95), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_never_yields_the_text(at, change):
    whole = bytearray(base64.b64decode(cipher().encrypt(b"x" * 40)))
    assert len(whole) == 96
    whole[at] ^= change
    try:
        read = cipher().decrypt(base64.b64encode(bytes(whole)).decode())
    except UndecipherableError:
        return
    # A change may garble a text in ways that only msg_signature shows; it never leaves it as it was.
    assert read != b"x" * 40


@pytest.mark.parametrize(
    "text",
    ["", "=", "AAAA", "not base64!", "A" * 43, base64.b64encode(b"x" * 32).decode(), "\u4e00", "A" * 64],
)
def test_what_was_never_encrypted_is_refused(text):
    with pytest.raises(UndecipherableError):
        cipher().decrypt(text)


def test_another_accounts_push_is_refused():
    with pytest.raises(UndecipherableError):
        cipher().decrypt(cipher(app_id="wx_of_somebody_else").encrypt(b"text"))
    with pytest.raises(UndecipherableError):
        cipher().decrypt(cipher(OTHER_AES_KEY).encrypt(b"text"))


def test_a_length_beyond_the_end_is_refused():
    made = PrpCrypto(key_of(AES_KEY))
    made.get_random_string = lambda: "0123456789abcde"  # one byte short: the length is read from elsewhere
    with pytest.raises(UndecipherableError):
        cipher().decrypt(made.encrypt("text", APP_ID).decode())


def test_while_the_key_changes_both_are_known():
    old, new = cipher(OTHER_AES_KEY), cipher()
    for one in (old, new):
        assert decrypt_with_any([new, old], one.encrypt(b"text")) == (b"text", one)
    with pytest.raises(UndecipherableError):
        decrypt_with_any([new], old.encrypt(b"text"))
    with pytest.raises(UndecipherableError):
        decrypt_with_any([], old.encrypt(b"text"))


@pytest.mark.parametrize("key", ["", "A" * 42, "A" * 44, "!" * 43, "\u4e00" * 43])
def test_a_key_has_43_characters(key):
    with pytest.raises(ValueError, match="43 letters and digits"):
        key_of(key)


def test_any_last_character_will_do():
    """Its last two bits are no part of the key; keys of the console have any."""
    assert len(key_of("A" * 42 + "9")) == 32
