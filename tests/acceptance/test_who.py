"""Who got it, and the report that proves it."""

import copy
from pathlib import Path
from typing import Any

from bed.arrivals import Arrivals
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, counting_endpoint
from bed.ports import eventually
from bed.site import openid, sqlite_site
from bed.wire import RawClient

FOLLOWERS = 5000
LISTS = 16
REJECTED = b'{"errcode":43004,"errmsg":"require subscribe rid: 1-2-3"}'


def _some_rejected(path: str, body: dict[str, Any]) -> bytes:
    return REJECTED if int(body["touser"][1:]) % 10 == 1 else OK


def test_a_list_under_a_running_job_and_a_slow_reader_names_each_once(tmp_path: Path) -> None:
    with counting_endpoint(latency_s=0.02) as endpoint:
        arrivals = Arrivals(endpoint, _some_rejected)
        site = sqlite_site(tmp_path / "site.db", FOLLOWERS)
        with (
            # More slices than tasks: those that are left over are split between all.
            daemon_process(
                tmp_path, endpoint.url, site, channels=["custom"], pool="tasks = 8\nslice_size = 400"
            ) as daemon,
            RawClient(daemon.port) as slow,
        ):
            job = daemon.call({"content": "listed", "key": "k"})["job"]
            eventually(lambda: daemon.job(job)["books"]["planned"], what="all are frozen")
            # More than what fits between the two sides: some list stands still in its middle.
            for _ in range(LISTS):
                slow.send({"op": "who", "job": job})
            # Meanwhile slices are split: nobody may be listed again in the slice that was split off.
            daemon.wait_done(job)
            assert "slice_split" in daemon.log
            for _ in range(LISTS):
                lines = _whole_list(slow)
                assert [one["id"] for one in lines] == list(range(1, FOLLOWERS + 1))
            _check_filters(daemon, job)
        assert len(arrivals.received("listed")) == FOLLOWERS * 9 // 10


def _whole_list(client: RawClient) -> list[dict[str, Any]]:
    lines = []
    while "listed" not in (reply := client.reply()):
        assert reply["ok"], reply
        lines.append(reply)
    assert reply["listed"] == len(lines)
    return lines


def _check_filters(daemon: DaemonProcess, job: str) -> None:
    rejected = daemon.who(job, outcome="rejected")
    assert [one["id"] for one in rejected] == list(range(1, FOLLOWERS + 1, 10))
    assert {(one["errcode"], one["channel"], one["round"]) for one in rejected} == {(43004, "custom", 1)}
    assert len(daemon.who(job, outcome=["rejected", "sent"])) == FOLLOWERS
    assert daemon.who(job, outcome=["unknown", "failed", "skipped", "none"]) == []
    (one,) = daemon.who(job, openid=openid(17))
    assert (one["id"], one["outcome"], one["openid"]) == (17, "sent", openid(17))
    assert daemon.who(job, openid=openid(17), outcome="rejected") == []
    refused = daemon.control("who", job, outcome="lost")
    assert refused["error"] == "bad_frame"
    assert "accepted: sent, rejected, failed, unknown, skipped, none" in refused["message"]


def test_30_000_without_an_outcome_are_streamed_and_who_does_not_read_is_cut_off(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        endpoint.answer = lambda path, body: b'{"errcode":40037,"errmsg":"invalid template_id"}'
        site = sqlite_site(tmp_path / "site.db", 30_000)
        with daemon_process(tmp_path, endpoint.url, site, server="reply_timeout_s = 1", cold=True) as daemon:
            job = daemon.call({"content": "held", "key": "k"})["job"]
            eventually(lambda: daemon.job(job)["books"]["planned"], what="all are frozen")
            daemon.wait_state(job, "held")
            before_kb = daemon.memory_kb()
            listed = daemon.who(job, outcome="none")
            assert [one["id"] for one in listed] == list(range(1, 30_001))
            assert {(one["outcome"], one["at"]) for one in listed} == {(None, None)}
            with RawClient(daemon.port) as stuck:
                for _ in range(20):
                    stuck.send({"op": "who", "job": job})
                assert len(daemon.who(job)) == 30_000
                eventually(lambda: _is_cut_off(stuck), what="it is cut off")
            assert daemon.call({"op": "ping"})["ok"]
            assert daemon.memory_kb() - before_kb < 20_000, "the list is streamed, not gathered"


ESTABLISHED = "01"  # of Linux's tcp_states.h


def _is_cut_off(client: RawClient) -> bool:
    """Whether the daemon has closed its side. The client learns of it only once it reads."""
    mine, theirs = (f":{name[1]:04X}" for name in (client.socket.getsockname(), client.socket.getpeername()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [theirs, mine, ESTABLISHED] not in [[row[1][8:], row[2][8:], row[3]] for row in rows]


def test_a_report_is_genuine_until_somebody_changes_it(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        endpoint.answer = _some_rejected
        site = sqlite_site(tmp_path / "site.db", 1000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            job = daemon.call({"content": "求購信息", "key": "order-1", "ref": 17})["job"]
            view = daemon.wait_done(job)
            report = daemon.control("report", job)["report"]
            assert report["final"] is True
            assert report["recipients"] == 1000
            assert report["outcomes"]["sent"] == report["by_channel"]["custom"] == 900
            assert report["errcodes"]["43004"]["n"] == report["outcomes"]["rejected"] == 100
            assert report["first_sent_at"] == view["first_sent_at"] <= report["last_sent_at"]
            daemon.kill()
            daemon.start()
            assert daemon.control("report", job)["report"] == report, "the same, whenever it is asked for"
            genuine = daemon.call({"op": "verify", "report": report})
            assert genuine == {"ok": True, "genuine": True, "job": job}
            for forged in _forgeries(report):
                assert daemon.call({"op": "verify", "report": forged})["genuine"] is False
            assert daemon.call({"op": "verify", "report": []})["error"] == "bad_frame"


def _forgeries(report: dict[str, Any]) -> list[dict[str, Any]]:
    forged = []
    for field, value in (
        ("recipients", 1001), ("job", "j0"), ("content_sha256", "0" * 64), ("hmac", "0" * 64),
        ("hmac", None), ("hmac", "ä"), ("final", 1), ("extra", 1),
    ):  # fmt: skip
        forged.append({**report, field: value})
    deep = copy.deepcopy(report)
    deep["outcomes"]["sent"] += 1
    without = {name: value for name, value in report.items() if name != "in_doubt"}
    return [*forged, deep, without, {}, {"hmac": report["hmac"]}]
