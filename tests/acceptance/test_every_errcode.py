"""Every row of the errcode table, sent by WeChat's stand-in to the real daemon: outcome, ledger and log.

One daemon, an account for each code: its `api_base` names the code that its customer-service messages are
answered with; template messages are taken.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from bed.daemon import DaemonProcess
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.ports import eventually
from bed.site import sqlite_site

from broadcastd.errcodes import MEANINGS, Action, in_words

UNLISTED = 99999
CODES = [*MEANINGS, UNLISTED]
ACCOUNT = """
[accounts.a{name}]
api_base = "{api}/{code}"
channels = ["custom", "template"]
[accounts.a{name}.audience]
url = "{site}"
[accounts.a{name}.template]
template_id = "T1"
"""


def name_of(code: int) -> str:
    return f"a{code}".replace("-", "m")


def answer(path: str, body: dict[str, object]) -> bytes:
    code = int(path.split("/")[1])
    if "template" in path or not code:
        return OK
    return b'{"errcode":%d,"errmsg":"no rid: 1-2-3"}' % code


class Bed:
    """The daemon with a job for each code, and what came to the endpoint."""

    def __init__(self, daemon: DaemonProcess, endpoint: CountingEndpoint) -> None:
        self.daemon = daemon
        self.endpoint = endpoint
        self.calls: dict[int, list[str]] = {code: [] for code in CODES}
        endpoint.answer = self._answer
        self.jobs: dict[int, str] = {}

    def _answer(self, path: str, body: dict[str, object]) -> bytes:
        self.calls[int(path.split("/")[1])].append("template" if "template" in path else "custom")
        return answer(path, body)

    def broadcast(self) -> None:
        for code in CODES:
            reply = self.daemon.call({"content": f"post {code}", "account": name_of(code), "key": str(code)})
            assert reply["ok"], reply
            self.jobs[code] = reply["job"]

    def job(self, code: int) -> dict[str, Any]:
        return self.daemon.job(self.jobs[code])

    def comes_to(self, code: int, what: str, **values: Any) -> dict[str, Any]:
        """Wait until the job has these values."""

        def there() -> dict[str, Any] | None:
            job = self.job(code)
            return job if all(job[name] == value for name, value in values.items()) else None

        return eventually(there, 90, f"{what}: {self.job(code)}")

    def logged(self, event: str, code: int) -> list[dict[str, Any]]:
        ours = ("account", name_of(code)), ("job", self.jobs[code])
        return [line for line in self.daemon.events(event) if any(one in line.items() for one in ours)]

    def rows(self, table: str, code: int) -> list[sqlite3.Row]:
        """What the ledger itself holds of the code's job."""
        with closing(sqlite3.connect(f"file:{self.daemon.ledger}?mode=ro", uri=True)) as ledger:
            ledger.row_factory = sqlite3.Row
            which = "job_no = (SELECT no FROM jobs WHERE id = ?)" if table != "jobs" else "id = ?"
            return ledger.execute(f"SELECT * FROM {table} WHERE {which}", (self.jobs[code],)).fetchall()


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder = tmp_path_factory.mktemp("errcodes")
    with counting_endpoint() as endpoint:
        site = sqlite_site(folder / "site.db", 1)
        accounts = "".join(
            ACCOUNT.format(name=name_of(code)[1:], code=code, api=endpoint.url, site=site) for code in CODES
        )
        daemon = DaemonProcess(folder, f"{endpoint.url}/0", site, more=accounts)
        daemon.start()
        try:
            bed = Bed(daemon, endpoint)
            bed.broadcast()
            yield bed
        finally:
            daemon.close()


def rows_with(*actions: Action) -> list[int]:
    return [code for code, meaning in MEANINGS.items() if meaning.action in actions]


def ended(bed: Bed, code: int, outcome: str, channel: str, errcode: int) -> None:
    job = bed.comes_to(code, f"ends {outcome}", state="done")
    assert job["books"][outcome] == job["books"]["recipients"] == 1
    (row,) = bed.rows("outcomes", code)
    assert (row["outcome"], row["channel"], row["errcode"]) == (outcome, channel, errcode)
    (line,) = bed.logged("job_done", code)
    assert line["errcodes"] == ({in_words(errcode): 1} if errcode else {})
    if errcode:
        meaning = MEANINGS.get(errcode)
        assert job["meanings"][str(errcode)]["zh"] == (meaning.zh if meaning else "未知错误码")
        report = bed.daemon.call({"op": "report", "job": bed.jobs[code]})["report"]
        assert report["errcodes"][str(errcode)]["n"] == 1
        assert report["errcodes"][str(errcode)]["meaning_zh"]


@pytest.mark.parametrize("code", rows_with(Action.ACCEPT))
def test_accepted(bed: Bed, code: int) -> None:
    ended(bed, code, "sent", "custom", 0)
    assert bed.calls[code] == ["custom"]


@pytest.mark.parametrize("code", rows_with(Action.REJECT))
def test_refused_for_good(bed: Bed, code: int) -> None:
    ended(bed, code, "rejected", "custom", code)
    assert bed.calls[code] == ["custom"]


@pytest.mark.parametrize("code", rows_with(Action.FALLBACK))
def test_next_channel(bed: Bed, code: int) -> None:
    ended(bed, code, "sent", "template", 0)
    assert bed.calls[code] == ["custom", "template"]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, marks=pytest.mark.long) if code == -1 else code  # 20 s of pauses
        for code in (*rows_with(Action.RETRY), UNLISTED)
    ],
)
def test_tried_again_and_then_failed(bed: Bed, code: int) -> None:
    ended(bed, code, "failed", "custom", code)
    assert bed.calls[code] == ["custom"] * (6 if code == -1 else 3)


@pytest.mark.parametrize("code", rows_with(Action.HOLD_CHANNEL))
def test_the_channel_is_held_and_the_next_one_is_taken(bed: Bed, code: int) -> None:
    ended(bed, code, "sent", "template", 0)
    (line,) = bed.logged("channel_held", code)
    assert (line["level"], line["channel"]) == ("error", "custom")
    assert in_words(code) in line["reason"]
    assert bed.calls[code] == ["custom", "template"]


@pytest.mark.parametrize("code", rows_with(Action.HOLD_ACCOUNT))
def test_the_account_is_held(bed: Bed, code: int) -> None:
    job = bed.comes_to(code, "is held", state="held")
    assert in_words(code) in job["reason"]
    assert job["held_until"] is not None
    assert job["books"]["ended"] == 0
    (row,) = bed.rows("jobs", code)
    assert (row["state"], row["hold_kind"]) == ("held", "account")
    (line,) = bed.logged("account_held", code)
    assert line["level"] == "error"
    assert in_words(code) in line["reason"]
    assert bed.calls[code] == ["custom"]


@pytest.mark.parametrize("code", rows_with(Action.STOP, Action.REBUILD))
def test_the_job_is_held_and_nobody_gets_an_outcome_by_it(bed: Bed, code: int) -> None:
    job = bed.comes_to(code, "is held", state="held")
    assert job["reason"] == f"{in_words(code)} (channel custom)"
    assert job["held_until"] is None
    assert job["books"]["ended"] == 0
    (row,) = bed.rows("jobs", code)
    assert (row["state"], row["hold_kind"]) == ("held", "trouble")
    (line,) = bed.logged("job_held", code)
    assert line["reason"] == job["reason"]
    assert bed.calls[code] == ["custom"]


@pytest.mark.parametrize("code", rows_with(Action.REFRESH))
def test_a_token_that_stays_stale_is_waited_for(bed: Bed, code: int) -> None:
    def waits() -> bool:
        return "token" in bed.job(code)["waits_for"]

    eventually(waits, 60, "it waits for a token")
    assert bed.logged("token_stale", code)[0]["errcode"] == code
    assert bed.job(code)["books"]["ended"] == 0
    assert bed.rows("outcomes", code) == []


@pytest.mark.parametrize("code", rows_with(Action.SLOW, Action.QUOTA))
def test_the_channel_waits(bed: Bed, code: int) -> None:
    def waits() -> bool:
        return in_words(code) in bed.job(code)["waits_for"]

    eventually(waits, 30, "it waits, with the code and its meaning")
    assert bed.job(code)["state"] == "running"
    assert bed.rows("outcomes", code) == []
    eventually(lambda: bed.rows("deferrals", code), 30, "the recipient is put off")
    assert set(bed.calls[code]) == {"custom"}


@pytest.mark.parametrize("code", rows_with(Action.MINUTE))
def test_a_repeat_is_asked_again_in_a_minute(bed: Bed, code: int) -> None:
    (row,) = eventually(lambda: bed.rows("deferrals", code), 30, "the recipient is put off")
    (mark,) = bed.rows("slices", code)
    assert row["due_at"] == mark["due_at"]
    assert row["tries"] == 1
    assert bed.calls[code] == ["custom"]
    assert bed.rows("outcomes", code) == []


def test_every_row_is_here() -> None:
    covered = rows_with(*Action)
    assert sorted(covered) == sorted(MEANINGS)
