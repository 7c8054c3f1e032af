from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.batch import Batch, OutcomeRow
from broadcastd.clock import from_ms, to_ms
from broadcastd.model import Books, Request, new_job_id
from broadcastd.outcomes import Outcome

MOMENTS = st.datetimes(datetime(2001, 9, 10), datetime(2400, 1, 1), timezones=st.just(UTC))
REQUEST = Request("a post", phone="110", template="T1", extra={"a": "1", "b": "2"})


@given(MOMENTS, st.timedeltas(timedelta(seconds=1), timedelta(days=3650)))
def test_job_ids_sort_by_their_second(moment, later):
    assert new_job_id(moment) < new_job_id(moment + later)


@given(MOMENTS)
def test_a_job_id_is_short_and_spelt_without_lookalikes(moment):
    name = new_job_id(moment)
    assert len(name) == 16
    assert name[0] == "j"
    assert not set(name[1:]) & set("ilouILOU")


def test_job_ids_of_one_second_differ():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    # 25 random bits: among 200 the odds of a repeat are 1 in 1,700; ten would be a defect.
    assert len({new_job_id(now) for _ in range(200)}) > 190


@pytest.mark.parametrize(
    "change",
    [
        {"content": "a post "},
        {"phone": "111"},
        {"to": ("o1",)},
        {"channels": ("custom",)},
        {"template": "T2"},
        {"extra": {"a": "1", "b": "3"}},
        {"extra": {}},
    ],
)
def test_another_broadcast_has_another_digest(change):
    assert replace(REQUEST, **change).digest() != REQUEST.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"key": "order-17"},
        {"ref": "post-3"},
        {"flag": 2},
        {"account": "other"},
        {"dry_run": True},
        {"extra": {"b": "2", "a": "1"}},
    ],
)
def test_what_is_no_part_of_the_text_does_not_change_the_digest(change):
    assert replace(REQUEST, **change).digest() == REQUEST.digest()


def test_the_parts_of_a_digest_do_not_run_into_each_other():
    assert Request("ab", phone="c").digest() != Request("a", phone="bc").digest()
    assert Request("a", to=("b",)).digest() != Request("a", channels=("b",)).digest()
    assert Request("a", to=("b", "c")).digest() != Request("a", to=("c", "b")).digest()


def test_test_sends_and_dry_runs_never_take_a_key():
    assert Request("a", key="k").takes_key
    assert not Request("a", key="k", to=("o1",)).takes_key
    assert not Request("a", key="k", dry_run=True).takes_key


def test_books_balance_when_all_are_frozen_and_everybody_has_an_outcome():
    books = Books(3, planned=True, outcomes={Outcome.SENT: 2, Outcome.UNKNOWN: 1})
    assert books.ended == 3
    assert books.balanced
    assert not replace(books, planned=False).balanced
    assert not replace(books, recipients=4).balanced


def test_an_empty_batch_needs_no_commit():
    row = OutcomeRow(1, 1, "o1", Outcome.SENT, "custom", 0, datetime(2026, 1, 1, tzinfo=UTC))
    assert not Batch()
    assert Batch(outcomes=[row])


@given(MOMENTS)
def test_the_ledger_keeps_milliseconds(moment):
    kept = from_ms(to_ms(moment))
    assert abs(kept - moment) <= timedelta(milliseconds=0.5)
    assert kept.tzinfo is UTC
    assert to_ms(kept) == to_ms(moment)
