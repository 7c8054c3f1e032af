"""What is known of a follower, case by case: would WeChat refuse a call?"""

from datetime import timedelta

import pytest
from bed.fakes import T0

from broadcastd.delivery.window import DEAF, HEARING, LONGEST_TRUST, expected, tells
from broadcastd.errcodes import MEANINGS, Note
from broadcastd.model import NOTHING_KNOWN, Known


def ago(**much):
    return T0 - timedelta(**much)


def soon(**much):
    return T0 + timedelta(**much)


CUSTOM = [
    # what is known, with a callback, without one
    (NOTHING_KNOWN, None, None),
    (Known(window_until=soon(hours=1), window_left=5), None, None),
    (Known(window_until=soon(hours=1), window_left=1), None, None),
    (Known(window_until=soon(hours=1), window_left=0), Note.CLOSED, Note.CLOSED),
    (Known(window_until=soon(hours=1)), None, None),
    # An opening is newer than a refusal: who is told of it erases the refusal, but both may be there.
    (Known(window_until=soon(hours=1), window_left=2, closed_at=ago(minutes=5)), None, None),
    (Known(window_until=T0, window_left=5), Note.CLOSED, Note.CLOSED),
    (Known(window_until=ago(minutes=59), window_left=5), Note.CLOSED, Note.CLOSED),
    (Known(window_until=ago(minutes=61), window_left=5), Note.CLOSED, None),
    (Known(window_until=ago(hours=25), window_left=5), None, None),
    (Known(closed_at=ago(minutes=59)), Note.CLOSED, Note.CLOSED),
    (Known(closed_at=ago(hours=1)), Note.CLOSED, None),
    (Known(closed_at=ago(hours=23, minutes=59)), Note.CLOSED, None),
    (Known(closed_at=ago(hours=24)), None, None),
    (Known(closed_at=ago(hours=30), window_until=ago(minutes=1)), Note.CLOSED, Note.CLOSED),
    # No consent says nothing of a window.
    (Known(refused_at=ago(minutes=1)), None, None),
    # A clock that was set back must not make a guess last for ever: it is fresh, no more.
    (Known(closed_at=soon(seconds=5)), Note.CLOSED, Note.CLOSED),
]

GONE = [
    (Known(gone_code=43004, gone_at=ago(hours=23)), Note.GONE, Note.GONE),
    (Known(gone_code=43004, gone_at=ago(hours=24)), Note.GONE, None),
    (Known(gone_code=48002, gone_at=ago(days=6, hours=23)), Note.GONE, None),
    (Known(gone_code=48002, gone_at=ago(days=7)), None, None),
    (Known(gone_code=50005, gone_at=ago(hours=1), closed_at=ago(minutes=1)), Note.GONE, Note.GONE),
]


@pytest.mark.parametrize(("known", "hearing", "deaf"), CUSTOM + GONE)
def test_custom(known, hearing, deaf):
    assert expected(known, "custom", T0, HEARING) is hearing
    assert expected(known, "custom", T0, DEAF) is deaf


@pytest.mark.parametrize(("known", "hearing", "deaf"), GONE)
def test_template_is_refused_to_who_is_gone(known, hearing, deaf):
    assert expected(known, "template", T0, HEARING) is hearing
    assert expected(known, "template", T0, DEAF) is deaf


@pytest.mark.parametrize("known", [known for known, _, _ in CUSTOM])
def test_template_needs_no_window(known):
    assert expected(known, "template", T0, HEARING) is None


@pytest.mark.parametrize(
    ("known", "hearing", "deaf"),
    [
        (Known(refused_at=ago(minutes=59)), Note.NO_CONSENT, Note.NO_CONSENT),
        (Known(refused_at=ago(hours=2)), Note.NO_CONSENT, None),
        (Known(refused_at=ago(hours=24)), None, None),
        (Known(closed_at=ago(minutes=1)), None, None),
        # It reaches those too who do not follow.
        (Known(gone_code=43004, gone_at=ago(minutes=1)), None, None),
    ],
)
def test_subscribe(known, hearing, deaf):
    assert expected(known, "subscribe", T0, HEARING) is hearing
    assert expected(known, "subscribe", T0, DEAF) is deaf


def test_of_other_channels_nothing_is_expected():
    everything = Known(None, None, T0, 43004, T0, T0)
    assert expected(everything, "mass", T0, HEARING) is None
    assert expected(everything, "email", T0, HEARING) is None


@pytest.mark.parametrize(
    ("known", "notes"),
    [
        (NOTHING_KNOWN, set()),
        (Known(closed_at=T0), {Note.CLOSED}),
        (Known(window_until=T0, window_left=3), {Note.CLOSED}),
        (Known(gone_code=43004, gone_at=T0), {Note.GONE}),
        (Known(refused_at=T0), {Note.NO_CONSENT}),
    ],
)
def test_an_accepted_message_changes_what_is_known_only_where_something_is(known, notes):
    assert {note for note in Note if tells(known, note)} == notes


def test_what_is_kept_longest_is_the_longest_that_is_believed():
    assert timedelta(days=7) == LONGEST_TRUST


def test_every_note_of_the_table_is_one_that_is_judged():
    noted = {meaning.note for meaning in MEANINGS.values()} - {None}
    assert noted == set(Note)
