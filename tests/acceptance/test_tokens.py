"""Access tokens with the real process: storms, mistakes, a wrong secret. Nobody is lost by any."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.platform import APP_ID, APP_SECRET, Platform, refusal
from bed.ports import eventually
from bed.sandboxes import sandbox_process
from bed.site import TOKEN, openid, sqlite_site

ONE_EACH = "sends_per_task = 1"
"""60 tasks with a call each: so many may be under way when a token ends, and no more."""
FROM_API = '[accounts.default.token]\nsource = "api"'


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, the secret from a file: as an operator would give them."""
    (tmp_path / "secret").write_text(APP_SECRET + "\n")
    monkeypatch.setenv("BROADCASTD_ACCOUNTS__DEFAULT__APP_ID", APP_ID)
    monkeypatch.setenv("BROADCASTD_ACCOUNTS__DEFAULT__APP_SECRET_FILE", "secret")


@dataclass
class Ends:
    """Lets tokens end after so many sends each, with another errcode each time."""

    platform: Platform
    every: int
    most: int = 30
    on_end: Callable[[], None] = lambda: None
    sent: int = 0
    ended: int = 0
    errcodes: list[int] = field(default_factory=lambda: [42001, 40001, 40014])

    def answer(self, path: str, body: dict[str, object]) -> bytes:
        answer = self.platform.answer(path, body)
        self.sent += answer == OK
        if answer == OK and self.sent % self.every == 0 and self.ended < self.most:
            self.platform.stale_errcode = self.errcodes[self.ended % len(self.errcodes)]
            self.ended += 1
            self.platform.expire()
            self.on_end()
        return answer


def assert_all_sent_once(daemon: DaemonProcess, endpoint: CountingEndpoint, job: str, many: int) -> None:
    books = daemon.wait_done(job)["books"]
    assert books["sent"] == books["recipients"] == many
    assert books["balanced"]
    assert books["in_doubt"] == 0
    assert set(endpoint.received) == {openid(number) for number in range(1, many + 1)}
    assert set(endpoint.received.values()) == {1}


def without_secrets(daemon: DaemonProcess, *more: str) -> None:
    for secret in (APP_SECRET, "stable-token-", TOKEN, *more):
        assert secret not in daemon.log


@pytest.mark.usefixtures("credentials")
def test_thirty_ends_of_a_stable_token_in_a_job_cost_nobody(tmp_path: Path) -> None:
    platform = Platform()
    ends = Ends(platform, every=190)
    with counting_endpoint() as endpoint:
        endpoint.answer = ends.answer
        site = sqlite_site(tmp_path / "site.db", 6000, token="")
        with daemon_process(tmp_path, endpoint.url, site, more=FROM_API, pool=ONE_EACH) as daemon:
            eventually(lambda: platform.asked == 1, what="it fetches a token before anybody needs one")
            job = daemon.call({"content": "stormy", "key": "k"})["job"]
            assert_all_sent_once(daemon, endpoint, job, 6000)
            without_secrets(daemon)
    assert ends.ended == 30
    assert len(platform.stale) == 30
    assert max(platform.stale.values()) <= 60
    assert platform.asked == 31
    assert platform.forced == 0


def test_thirty_ends_of_the_sites_token_in_a_job_cost_nobody(tmp_path: Path) -> None:
    """The site has the new one in its table when the old one ends; the daemon looks when it is refused."""
    platform = Platform()
    site = sqlite_site(tmp_path / "site.db", 6000, token=platform.token)

    def refresh() -> None:
        with closing(sqlite3.connect(tmp_path / "site.db")) as database:
            database.execute("UPDATE tp_accesstoken SET accesstoken = ?", (platform.token,))
            database.commit()

    ends = Ends(platform, every=190, on_end=refresh)
    with counting_endpoint() as endpoint:
        endpoint.answer = ends.answer
        with daemon_process(tmp_path, endpoint.url, site, pool=ONE_EACH) as daemon:
            job = daemon.call({"content": "stormy", "key": "k"})["job"]
            assert_all_sent_once(daemon, endpoint, job, 6000)
            without_secrets(daemon)
    assert ends.ended == 30
    assert max(platform.stale.values()) <= 60
    assert platform.asked == 0


@pytest.mark.usefixtures("credentials")
def test_one_mistake_about_a_good_token_forces_nothing(tmp_path: Path) -> None:
    platform, mistakes = Platform(), [40001]

    def answer(path: str, body: dict[str, object]) -> bytes:
        if "send" in path and platform.asked and mistakes:
            return refusal(mistakes.pop(), "invalid credential, access_token is invalid or not latest")
        return platform.answer(path, body)

    with counting_endpoint() as endpoint:
        endpoint.answer = answer
        site = sqlite_site(tmp_path / "site.db", 1000, token="")
        with daemon_process(tmp_path, endpoint.url, site, more=FROM_API) as daemon:
            job = daemon.call({"content": "mistaken", "key": "k"})["job"]
            assert_all_sent_once(daemon, endpoint, job, 1000)
    assert not mistakes
    assert (platform.asked, platform.forced) == (2, 0)


@pytest.mark.long  # 20 s of waiting
@pytest.mark.usefixtures("credentials")
def test_every_token_refused_for_a_while_is_waited_for_and_few_are_forced(tmp_path: Path) -> None:
    platform = Platform()
    platform.refuses_send = 40001
    with counting_endpoint() as endpoint:
        endpoint.answer = platform.answer
        site = sqlite_site(tmp_path / "site.db", 1500, token="")
        with daemon_process(tmp_path, endpoint.url, site, more=FROM_API) as daemon:
            job = daemon.call({"content": "refused", "key": "k"})["job"]
            words = "WeChat refuses the access token that it gives out itself"
            eventually(lambda: words in daemon.job(job)["waits_for"], 60, "it says what it waits for")
            view = daemon.job(job)
            assert (view["state"], view["books"]["ended"]) == ("running", 0)
            assert words in daemon.call({"op": "info"})["accounts"]["default"]["wechat"]
            platform.refuses_send = 0
            assert_all_sent_once(daemon, endpoint, job, 1500)
            without_secrets(daemon)
    assert platform.forced == 1


@pytest.mark.usefixtures("credentials")
def test_a_wrong_secret_is_told_at_the_start_and_costs_nobody(tmp_path: Path) -> None:
    platform = Platform()
    platform.refuses_token = 40125
    with counting_endpoint() as endpoint:
        endpoint.answer = platform.answer
        site = sqlite_site(tmp_path / "site.db", 500, token="")
        with daemon_process(tmp_path, endpoint.url, site, more=FROM_API) as daemon:

            def trouble() -> str:
                return str(daemon.call({"op": "info"})["accounts"]["default"]["wechat"])

            eventually(lambda: "40125" in trouble(), what="info tells of it before any job")
            assert "check app_id and app_secret" in trouble()
            job = daemon.call({"content": "wrong secret", "key": "k"})["job"]
            eventually(lambda: "40125" in daemon.job(job)["waits_for"], what="the job says what it waits for")
            assert daemon.job(job)["books"]["ended"] == 0
            # One call a minute at the most, whatever 60 tasks want.
            assert platform.asked == 1
            assert daemon.stop() == 0
            platform.refuses_token = 0
            daemon.start()
            assert_all_sent_once(daemon, endpoint, job, 500)
            without_secrets(daemon)


def test_tokens_of_four_seconds_are_renewed_ahead_and_no_send_meets_a_stale_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sandbox_process("--expires-in-s", "4", "--latency-ms", "10") as sandbox:
        monkeypatch.setenv("BROADCASTD_ACCOUNTS__DEFAULT__APP_ID", sandbox.started["app_id"])
        monkeypatch.setenv("BROADCASTD_ACCOUNTS__DEFAULT__APP_SECRET", sandbox.started["app_secret"])
        site = sqlite_site(tmp_path / "site.db", 3000, token="")
        few = "tasks = 4\nsends_per_task = 1"
        with daemon_process(tmp_path, sandbox.url, site, more=FROM_API, pool=few) as daemon:
            job = daemon.call({"content": "short-lived", "key": "k"})["job"]
            books = daemon.wait_done(job)["books"]
            custom, stable = sandbox.answers("custom"), sandbox.answers("stable_token")
            lives = len(daemon.events("token_fetched"))
            assert sandbox.started["app_secret"] not in daemon.log
    assert books["sent"] == 3000
    assert lives >= 3
    assert custom == {"0": 3000}
    # Asked for at half its life, then a few times until the sandbox has renewed it.
    assert stable["0"] <= 5 * lives
