"""Quotas with the real process and the sandbox: forecasts, a used up day, its end, and `quota clear`."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bed.books import check_books
from bed.commands import finished
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import counting_endpoint
from bed.ports import eventually
from bed.sandboxes import SandboxProcess, sandbox_process
from bed.site import TOKEN, openid, sqlite_site

IN_FLIGHT = 60
"""Tasks with one call each."""
POOL = "sends_per_task = 1"
DAY_S = 86_400
QUOTA = """
[accounts.default.quota]
look_s = 1
"""
SECOND = """
[accounts.other]
api_base = "{api}"
channels = ["custom"]
[accounts.other.audience]
url = "{audience}"
"""


@contextmanager
def scene(
    folder: Path, followers: int, *options: str, more: str = ""
) -> Iterator[tuple[SandboxProcess, DaemonProcess]]:
    """A sandbox that takes the site's token for days, and a daemon before it."""
    site = sqlite_site(folder / "site.db", followers)
    lasting = ("--token", TOKEN, "--expires-in-s", str(30 * DAY_S))
    with (
        sandbox_process(*lasting, *options) as sandbox,
        daemon_process(folder, sandbox.url, site, pool=POOL, more=more + QUOTA) as daemon,
    ):
        yield sandbox, daemon


@pytest.fixture
def app_id(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The account's id, as the environment gives it; options of the sandbox."""
    monkeypatch.setenv("BROADCASTD_ACCOUNTS__DEFAULT__APP_ID", "wx0123456789abcdef")
    return ("--app-id", "wx0123456789abcdef")


def command(daemon: DaemonProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return finished(*arguments, "-c", daemon.settings)


def wait_used_up(daemon: DaemonProcess, job: str, sent: int) -> dict[str, Any]:
    """Wait until the job says that it waits for the quota; its view then."""

    def there() -> dict[str, Any] | None:
        view = daemon.job(job)
        return view if "nothing is left" in view["waits_for"] and view["books"]["sent"] == sent else None

    return eventually(there, 60, f"{sent} are sent, and the others wait for the quota")


def assert_all_got_it_once(sandbox: SandboxProcess, daemon: DaemonProcess, job: str, many: int) -> None:
    books = daemon.wait_done(job)["books"]
    assert books["sent"] == books["recipients"] == many
    assert books["balanced"]
    summary = sandbox.control("summary")
    assert (summary["followers_reached"], summary["followers_repeated"]) == (many, 0)
    check_books(daemon.ledger)


def test_a_job_over_the_quota_waits_and_goes_on_after_a_reset_and_at_midnight(
    tmp_path: Path, app_id: tuple[str, ...]
) -> None:
    with scene(tmp_path, 3000, "--quota", "custom=1000", *app_id) as (sandbox, daemon):
        job = daemon.call({"content": "too many", "key": "k", "channels": ["custom"]})["job"]
        view = wait_used_up(daemon, job, 1000)
        assert view["state"] == "running"
        assert view["waits_for"].startswith("45009 the daily quota of this API is used up")
        assert "(channel custom); nothing is left today; looked at again at 20" in view["waits_for"]
        assert view["books"]["remaining"] == 2000
        check_books(daemon.ledger)
        assert sandbox.answers("custom")["45009"] <= IN_FLIGHT
        (warning,) = view["warnings"]
        assert "too few; who is left waits until it is back" in warning
        done = command(daemon, "quota", "clear")
        assert done.returncode == 0, done.stderr
        assert "default: WeChat has reset the quotas of all calls" in done.stdout
        wait_used_up(daemon, job, 2000)
        assert sandbox.answers("clear_quota") == {"0": 1}
        # Nobody tries meanwhile: quota/get is asked instead.
        before, asked = sandbox.answers("custom"), sandbox.answers("quota_get")["0"]
        eventually(lambda: sandbox.answers("quota_get")["0"] >= asked + 3, what="three looks more")
        assert sandbox.answers("custom") == before
        sandbox.control("clock", {"advance_s": DAY_S})
        assert_all_got_it_once(sandbox, daemon, job, 3000)
        assert sandbox.answers("custom")["45009"] <= 2 * IN_FLIGHT
        assert sandbox.answers("clear_quota") == {"0": 1}
        assert len(daemon.events("quota_back")) == 1


def test_other_channels_and_other_accounts_go_on_while_one_waits(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        (tmp_path / "other").mkdir()
        elsewhere = sqlite_site(tmp_path / "other" / "site.db", 500)
        more = SECOND.format(api=endpoint.url, audience=elsewhere)
        with scene(tmp_path, 600, "--quota", "custom=100", more=more) as (sandbox, daemon):
            held = daemon.call({"content": "held", "key": "k", "channels": ["custom"]})["job"]
            wait_used_up(daemon, held, 100)
            by_template = daemon.call({"content": "by template", "key": "t", "channels": ["template"]})
            assert daemon.wait_done(by_template["job"])["books"]["by_channel"] == {"template": 600}
            other = daemon.call({"content": "other", "key": "o", "account": "other"})
            assert daemon.wait_done(other["job"])["books"]["sent"] == 500
            assert endpoint.received == Counter({openid(number): 1 for number in range(1, 501)})
            view = daemon.job(held)
            assert (view["state"], view["books"]["sent"]) == ("running", 100)
            assert sandbox.answers("custom")["45009"] <= IN_FLIGHT


def test_a_restart_while_the_quota_is_used_up_costs_nobody(tmp_path: Path) -> None:
    with scene(tmp_path, 800, "--quota", "custom=300") as (sandbox, daemon):
        job = daemon.call({"content": "restarted", "key": "k", "channels": ["custom"]})["job"]
        wait_used_up(daemon, job, 300)
        assert daemon.stop() == 0
        daemon.start()
        wait_used_up(daemon, job, 300)
        daemon.kill()
        sandbox.control("quotas", {"custom": 1000})
        daemon.start()
        assert sandbox.answers("custom")["45009"] <= 2 * IN_FLIGHT
        assert_all_got_it_once(sandbox, daemon, job, 800)


def test_the_answer_warns_of_a_job_that_cannot_fit(tmp_path: Path) -> None:
    with scene(tmp_path, 700, "--quota", "custom=1000", "--quota", "template=200") as (_, daemon):
        first = daemon.call({"content": "the first", "key": "1", "channels": ["custom"]})
        daemon.wait_done(first["job"])
        eventually(lambda: daemon.call({"op": "quota"}), what="figures")
        second = daemon.call({"content": "the second", "key": "2"})
        quota = second["quota"]
        assert quota["fits"] is False
        custom, template = quota["custom"], quota["template"]
        assert (custom["needed"], custom["left"], custom["used"], custom["daily_limit"]) == (
            700, 300, 700, 1000,
        )  # fmt: skip
        assert (custom["upper_bound"], template["upper_bound"]) == (False, True)
        assert (template["needed"], template["left"]) == (700, 200)
        words = (
            "custom: 700 are needed, 300 of 1,000 calls are left today;"
            " template: up to 700 are needed, 200 of 200 calls are left today"
        )
        assert quota["words"] == words
        assert len(second["warnings"]) == 2
        eventually(lambda: daemon.events("job_over_quota"), what="the exact forecast is logged")
        dry = daemon.call({"content": "a dry run", "dry_run": True})["quota"]
        assert dry["custom"]["needed"] == 700
        assert dry["fits"] is False


def test_a_first_job_is_warned_of_once_it_is_planned(tmp_path: Path) -> None:
    with scene(tmp_path, 500, "--quota", "custom=100") as (_, daemon):
        first = daemon.call({"content": "the first ever", "key": "1", "channels": ["custom"]})
        assert first["quota"]["custom"]["needed"] is None
        assert first["quota"]["fits"] is None
        assert first["warnings"] == []
        view = eventually(
            lambda: (found := daemon.job(first["job"]))["warnings"] and found, what="it is warned of"
        )
        (warning,) = view["warnings"]
        assert warning.startswith("quota of custom: ")
        assert daemon.call({"op": "report", "job": first["job"]})["report"]["warnings"] == [warning]


def test_the_table_and_a_reset_that_is_refused(tmp_path: Path, app_id: tuple[str, ...]) -> None:
    with scene(tmp_path, 10, "--quota", "custom=1000", *app_id) as (sandbox, daemon):
        daemon.wait_done(daemon.call({"content": "ten", "key": "k", "channels": ["custom"]})["job"])
        table = command(daemon, "quota").stdout
        rows = [line.split() for line in table.splitlines()]
        assert rows[1] == ["default", "custom", "/cgi-bin/message/custom/send", "1,000", "10", "990"]
        row = json.loads(command(daemon, "quota", "--json").stdout)["accounts"]["default"]["channels"]
        assert row["template"]["rate"] == {"calls": 4_200_000, "per_s": 60}
        for _ in range(10):
            assert daemon.call({"op": "clear_quota"})["ok"]
        refused = command(daemon, "quota", "clear")
        assert refused.returncode == 5
        assert "48006 the 10 resets of this month are used up" in refused.stderr
        assert sandbox.answers("clear_quota") == {"0": 10, "48006": 1}
        assert TOKEN not in daemon.log


def test_a_reset_without_an_app_id_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    with scene(tmp_path, 10) as (sandbox, daemon):
        refused = daemon.call({"op": "clear_quota"})
        assert refused["error"] == "wrong_state"
        assert refused["message"] == "accounts.default.app_id is not in the settings"
        assert sandbox.answers("clear_quota") == {}
