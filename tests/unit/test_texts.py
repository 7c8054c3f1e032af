from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.model import Request
from broadcastd.texts import PLACEHOLDERS, check_text, fill, placeholder_values

NOW = datetime(2026, 1, 31, 16, 30, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")


def values(**request):
    return placeholder_values(Request(**{"content": "a post", **request}), NOW, SHANGHAI)


def test_all_placeholders_are_filled():
    text = "{content}|{phone}|{now}|{ref}|{key}"
    filled = fill(check_text(text), values(phone="110", ref="p3", key="order-17"))
    assert filled == "a post|110|2026-02-01 00:30:00|p3|order-17"


def test_what_the_frame_did_not_give_is_empty():
    assert fill("{phone}{ref}{key}.", values()) == "."


@pytest.mark.parametrize("name", ["contents", "", "0", "content.real", "content[0]", "Content"])
def test_a_placeholder_that_no_frame_can_fill_is_refused_and_what_is_accepted_named(name):
    with pytest.raises(ValueError, match="unknown placeholder") as refused:
        check_text(f"a {{{name}}} b")
    assert f"{{{name}}}" in str(refused.value)
    assert all(f"{{{one}}}" in str(refused.value) for one in PLACEHOLDERS)


@pytest.mark.parametrize("text", ["{", "}", "a {content", "content} b", "{content!}"])
def test_a_lone_brace_is_refused_with_how_to_write_it(text):
    with pytest.raises(ValueError, match=r"write a brace as \{\{ or \}\}"):
        check_text(text)


@pytest.mark.parametrize("text", ["{content:d}", "{content!x}", "{now:{phone}}", "{content:>999999999}"])
def test_a_format_that_would_break_at_the_first_broadcast_is_refused_at_start(text):
    with pytest.raises(ValueError, match=r"\{(content|now)\} takes no format"):
        check_text(text)


def test_doubled_braces_are_braces():
    assert fill(check_text("{{{content}}} {{phone}}"), values()) == "{a post} {phone}"


@given(st.text(alphabet="{}%$\\ab信:!", max_size=30))
def test_braces_in_the_content_stay_as_they_are(content):
    assert fill("<{content}>{phone}", values(content=content, phone="{now}")) == f"<{content}>{{now}}"


@given(st.text(alphabet="{}contephyrkwf!:.[]0", max_size=20))
def test_a_text_that_passes_the_check_can_be_filled(text):
    try:
        checked = check_text(text)
    except ValueError:
        return
    assert isinstance(fill(checked, values()), str)
