"""Settings of the listener that need a daemon of their own: token, idle time, dedupe off."""

from pathlib import Path

from bed.daemon import daemon_process
from bed.endpoint import counting_endpoint
from bed.site import TOKEN, sqlite_site
from bed.wire import RawClient

from broadcastd.wire import dial


def test_a_token_is_demanded_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open-sesame\n")
    with (
        counting_endpoint() as endpoint,
        daemon_process(
            tmp_path, endpoint.url, sqlite_site(tmp_path / "site.db", 10), server='token_file = "token"'
        ) as daemon,
    ):
        for wrong in ({}, {"token": "open-sesam"}, {"token": 17}, {"token": None}):
            reply = dial.call("127.0.0.1", daemon.port, {"op": "jobs", **wrong})
            assert reply["error"] == "unauthorized"
            assert reply["retry"] is False
        job = daemon.call({"content": "x", "token": "open-sesame"})["job"]
        with RawClient(daemon.port) as client:
            client.send({"op": "tail", "job": job, "token": "open-sesame"})
            while (reply := client.reply())["state"] != "done":
                pass
        assert reply["books"]["sent"] == 10
        log = daemon.log
    assert "open-sesame" not in log
    assert TOKEN not in log


def test_idle_connections_are_closed_and_dedupe_can_be_off(tmp_path: Path) -> None:
    settings = "idle_timeout_s = 0.3\ndedupe_window_s = 0"
    with (
        counting_endpoint() as endpoint,
        daemon_process(
            tmp_path, endpoint.url, sqlite_site(tmp_path / "site.db", 10), server=settings
        ) as daemon,
    ):
        with RawClient(daemon.port) as idle:
            assert idle.hung_up()
        frame = {"content": "again and again"}
        assert daemon.call(frame)["job"] != daemon.call(frame)["job"]


def test_who_hangs_up_in_the_middle_of_an_answer_leaves_no_trace_but_events(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        site = sqlite_site(tmp_path / "site.db", 20_000)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            job = daemon.wait_done(daemon.call({"content": "x"})["job"])["job"]
            for op in ({"op": "who", "job": job}, {"op": "tail", "job": job}):
                for _ in range(5):
                    with RawClient(daemon.port) as client:
                        for _ in range(20):
                            client.send(op)
                        client.reply()
            for _ in range(3):
                with RawClient(daemon.port) as client:
                    client.send({"op": "ping"})
                    assert daemon.stop() == 0
                daemon.start()
            log = daemon.log
    assert [line for line in log.splitlines() if not line.startswith("{")] == []


TOKENS = """
[server.tokens.shop]
token = "pay-17"
accounts = ["default"]
[server.tokens.page]
token = "look-17"
rights = ["read"]
[server.tokens.other]
token = "other-17"
rights = ["send", "read", "control"]
accounts = ["other"]
"""


def test_a_token_is_good_for_its_rights_and_accounts_only(tmp_path: Path) -> None:
    with (
        counting_endpoint() as endpoint,
        daemon_process(
            tmp_path, endpoint.url, sqlite_site(tmp_path / "site.db", 10), server=TOKENS
        ) as daemon,
    ):

        def error(token: str, op: str, **fields: object) -> str | None:
            reply = dial.call("127.0.0.1", daemon.port, {"op": op, "token": token, **fields})
            assert reply["ok"] is ("error" not in reply)
            return reply.get("error")

        job = daemon.call({"content": "x", "token": "pay-17"})["job"]
        of_job = {"job": job}
        looking = {"job": of_job, "tail": of_job}
        listing = {"info": {}, "jobs": {}, "quota": {}, "rate": {}, "who": of_job, "report": of_job}
        ones = {"pause": of_job, "resume": of_job, "cancel": of_job}
        whole = {"drain": {"off": True}, "adopt": {}}
        changing = {**ones, **whole, "retry": {"job": job, "only": ["failed"]}, "clear_quota": {}}
        for op, fields in {**listing, **changing}.items():
            assert error("pay-17", op, **fields) == "forbidden", op
        for op, fields in changing.items():
            assert error("look-17", op, **fields) == "forbidden", op
        assert error("look-17", "rate", channel="custom", per_second=1) == "forbidden"
        assert error("look-17", "broadcast", content="y") == "forbidden"
        for op, fields in {**looking, **listing}.items():
            assert error("look-17", op, **fields) is None, op
        for op, fields in looking.items():
            assert error("pay-17", op, **fields) is None, op
        # Another account's token: its rights are whole, and the job is not there for it.
        for op in ("job", "tail", "who", "report", "pause", "cancel"):
            assert error("other-17", op, job=job) == "unknown_job", op
        for op in ("drain", "adopt"):
            assert error("other-17", op) == "forbidden", op
        assert error("other-17", "rate", channel="custom", account="default") == "forbidden"
        assert error("other-17", "broadcast", content="y") == "forbidden"
        other = {"token": "other-17"}
        assert dial.call("127.0.0.1", daemon.port, {"op": "jobs", **other})["jobs"] == []
        assert dial.call("127.0.0.1", daemon.port, {"op": "info", **other})["accounts"] == {}
        assert error("pay-17x", "ping") == "unauthorized"
        log = daemon.log
    assert "-17" not in log.replace("order-17", "")
