"""The HTTP port of a real daemon, as machines use it: health, metrics, jobs."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.http_port import FORM, HttpClient, client_of, http_settings
from bed.ports import eventually
from bed.site import openid, sqlite_site
from bed.wire import RawClient

FOLLOWERS = 40


@pytest.fixture(scope="module")
def endpoint() -> Iterator[CountingEndpoint]:
    with counting_endpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, endpoint: CountingEndpoint) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("http")
    with daemon_process(
        folder, endpoint.url, sqlite_site(folder / "site.db", FOLLOWERS), **http_settings()
    ) as one:
        yield one


@pytest.fixture(scope="module")
def http(daemon: DaemonProcess) -> HttpClient:
    return client_of(daemon)


def test_alive_and_ready(http: HttpClient) -> None:
    got = http.get("/healthz")
    assert (got.status, got.json) == (200, {"status": "ok"})
    got = http.get("/readyz")
    assert got.status == 200
    assert got.json["status"] == "ready"
    assert set(got.json["parts"]) == {"ledger", "listener", "accepting", "loop", "tasks"}
    assert set(got.json["parts"].values()) == {"ok"}
    head = http.ask("HEAD", "/healthz")
    assert (head.status, head.body) == (200, b"")


def test_what_is_drained_is_not_ready(daemon: DaemonProcess, http: HttpClient) -> None:
    daemon.call({"op": "drain"})
    got = http.get("/readyz")
    assert got.status == 503
    assert got.json["parts"]["accepting"].startswith("draining")
    assert http.get("/healthz").status == 200
    refused = http.post({"content": "while draining"})
    assert (refused.status, refused.json["error"]) == (503, "draining")
    assert int(refused.headers["Retry-After"]) > 0
    daemon.call({"op": "drain", "off": True})
    assert http.get("/readyz").status == 200


def test_a_job_as_json_and_its_repeat(daemon: DaemonProcess, http: HttpClient) -> None:
    frame = {"content": "by json 求購", "key": "order-http-1", "ref": "post-1", "phone": 138}
    first = http.post(frame)
    assert first.status == 201
    job = first.json["job"]
    assert first.headers["Location"] == f"/jobs/{job}"
    assert daemon.wait_done(job)["books"]["sent"] == FOLLOWERS
    again = http.post(frame)
    assert (again.status, again.json["repeat"], again.json["job"]) == (200, True, job)
    other = http.post({**frame, "content": "another"})
    assert (other.status, other.json["error"], other.json["job"]) == (409, "conflict", job)
    assert "Location" not in other.headers
    # The frames' port knows the same job by the same key.
    assert daemon.call(frame)["repeat"] is True


def test_a_job_by_a_form_with_the_old_urls_fields(daemon: DaemonProcess, http: HttpClient) -> None:
    body = "flag=0&id=post-7&phone=138&content=%E6%B1%82%E8%B4%AD+form&key=order-http-2"
    got = http.post(body, **FORM)
    assert got.status == 201
    view = daemon.wait_done(got.json["job"])
    assert (view["content"], view["ref"], view["flag"], view["key"], view["phone"]) == (
        "求购 form", "post-7", 0, "order-http-2", "138",
    )  # fmt: skip
    assert view["books"]["sent"] == FOLLOWERS
    assert http.post(body, **FORM).status == 200


def test_a_dry_run_makes_no_job(daemon: DaemonProcess, http: HttpClient) -> None:
    before = len(daemon.call({"op": "jobs", "limit": 1000})["jobs"])
    got = http.post({"content": "dry", "dry_run": True})
    assert (got.status, got.json["recipients"]) == (200, FOLLOWERS)
    assert len(daemon.call({"op": "jobs", "limit": 1000})["jobs"]) == before


def test_jobs_can_be_looked_at(daemon: DaemonProcess, http: HttpClient) -> None:
    jobs = [http.post({"content": f"look {number}"}).json["job"] for number in range(3)]
    for job in jobs:
        daemon.wait_done(job)
    listed = http.get("/jobs?limit=2&account=default")
    assert listed.status == 200
    assert [one["job"] for one in listed.json["jobs"]] == jobs[:0:-1]
    assert http.get("/jobs?open=true").json["jobs"] == []
    view = http.get(f"/jobs/{jobs[0]}")
    assert view.status == 200
    assert view.json["books"]["sent"] == FOLLOWERS
    # As the frames' port tells it.
    assert view.json == daemon.job(jobs[0])
    assert http.get("/jobs/j123").status == 404
    assert http.get("/jobs/j123").json["error"] == "unknown_job"


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/", 404, "there are /healthz, /readyz, /metrics, /jobs"),
        ("GET", "/jobs/", 404, "no such page"),
        ("GET", "/jobs/{id}/x", 404, "no such page"),
        ("GET", "/jobs/../../etc/passwd", 404, "no such page"),
        ("GET", "/jobs/..%2f..%2fetc%2fpasswd", 404, "no such page"),
        ("GET", "/healthz/", 404, "no such page"),
        ("GET", "/jobs?limit=0", 400, "limit: '0' is no whole number from 1 to 100"),
        ("GET", "/jobs?limit=-1", 400, "limit: '-1' is no whole number from 1 to 100"),
        ("GET", "/jobs?limit=", 400, "limit: '' is no whole number from 1 to 100"),
        ("GET", "/jobs?limit=all", 400, "limit: 'all' is no whole number from 1 to 100"),
        ("GET", "/jobs?limit=101", 400, "limit: '101' is no whole number from 1 to 100"),
        ("GET", "/jobs?limit=1&limit=2", 400, "stands there twice"),
        ("GET", "/jobs?open=maybe", 400, "open"),
        ("GET", "/jobs?account=nobody", 200, ""),
        ("GET", "/jobs?colour=red", 400, "unknown 'colour'; accepted: limit, open, account"),
        ("GET", "/jobs?token=s3cret", 405, "use POST"),
        ("GET", "/healthz?token=s3cret", 400, "Authorization: Bearer TOKEN"),
        ("GET", "/jobs?flag=0&id=1&phone=1&content=x", 405, "use POST"),
        ("DELETE", "/jobs/j1", 405, "accepted here: GET"),
        ("OPTIONS", "/jobs", 405, "accepted here: GET, POST"),
        ("POST", "/metrics", 405, "accepted here: GET"),
        ("PUT", "/jobs", 405, "accepted here: GET, POST"),
        ("POST", "/jobs?content=x", 400, "no query string"),
        ("TRACE", "/jobs", 405, "accepted here"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    http: HttpClient, method: str, path: str, status: int, words: str
) -> None:
    got = http.ask(method, path, Content_Type="application/json")
    assert got.status == status
    assert words in got.json.get("message", "")
    assert b"s3cret" not in got.body
    assert "Access-Control-Allow-Origin" not in got.headers
    if status == 405:
        assert got.headers["Allow"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "error"),
    [
        (b'{"content":"x"', "application/json", 400, "bad_json"),
        (b'["content"]', "application/json", 400, "bad_frame"),
        (b"", "application/json", 400, "bad_json"),
        (b"{}", "application/json", 400, "bad_frame"),
        (b'{"content":"x","colour":"red"}', "application/json", 400, "bad_frame"),
        (b'{"content":" "}', "application/json", 400, "bad_content"),
        (b'{"content":"x","account":"nobody"}', "application/json", 400, "unknown_account"),
        (b'{"op":"cancel","job":"j1"}', "application/json", 400, "bad_frame"),
        (b'{"op":["ping"],"content":"x"}', "application/json", 400, "bad_frame"),
        (b'{"content":"x"}', "text/plain", 415, "bad_frame"),
        (b'{"content":"x"}', "", 415, "bad_frame"),
        (b"content=x&colour=red", "application/x-www-form-urlencoded", 400, "bad_frame"),
        (b"flag=&content=x", "application/x-www-form-urlencoded", 400, "bad_frame"),
        (b"x" * 70_000, "application/json", 413, "frame_too_large"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(
    daemon: DaemonProcess, http: HttpClient, body: bytes, content_type: str, status: int, error: str
) -> None:
    before = daemon.call({"op": "jobs", "limit": 1000})["jobs"]
    got = http.post(body, Content_Type=content_type)
    assert (got.status, got.json["ok"], got.json["error"]) == (status, False, error), got
    assert daemon.call({"op": "jobs", "limit": 1000})["jobs"] == before


def test_a_compressed_body_is_not_read(http: HttpClient) -> None:
    assert http.post({"content": "x"}, Content_Encoding="gzip").status == 415


def test_a_body_in_chunks(daemon: DaemonProcess, http: HttpClient) -> None:
    names = ("Host: localhost", "Content-Type: application/json", "Transfer-Encoding: chunked")
    head = "\r\n".join(["POST /jobs HTTP/1.1", *names, "", ""]).encode()
    answer = http.raw(head + b'9\r\n{"content\r\n8\r\n":"ch"  \r\n1\r\n}\r\n0\r\n\r\n')
    assert answer.startswith(b"HTTP/1.1 201 ")
    endless = http.raw(head + b"1000\r\n%s\r\n" % (b" " * 0x1000) * 40)
    assert endless.startswith(b"HTTP/1.1 413 ")


def test_every_answer_keeps_browsers_out(http: HttpClient) -> None:
    for got in (http.get("/healthz"), http.get("/metrics"), http.get("/nowhere"), http.post(b"", **FORM)):
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert got.headers["Cache-Control"] == "no-store"
        assert got.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert not [name for name in got.headers if name.lower().startswith("access-control")]
    page = {"Origin": "http://evil.example", **FORM}
    assert http.post("content=x", **page).status == 403
    assert http.post({"content": "x"}, Host="evil.example").status == 421
    assert http.get("/jobs", Sec_Fetch_Site="cross-site").status == 403


def test_the_metrics_tell_what_has_happened(
    daemon: DaemonProcess, endpoint: CountingEndpoint, http: HttpClient
) -> None:
    """Outcomes and answers are those of the books; the second channel shows, too."""
    before = _settled(http)
    window_closed = {openid(number) for number in range(1, 11)}
    ok = endpoint.answer
    endpoint.answer = lambda path, body: (
        b'{"errcode":45015,"errmsg":"x"}'
        if "custom" in path and body["touser"] in window_closed
        else b'{"errcode":0,"errmsg":"ok"}'
    )
    try:
        books = daemon.wait_done(http.post({"content": "for the metrics"}).json["job"])["books"]
    finally:
        endpoint.answer = ok
    assert books["by_channel"] == {"custom": 30, "template": 10}

    def counted() -> bool:
        after = http.metrics()
        grown = {name: value - before.get(name, 0) for name, value in after.items()}
        account = 'account="default"'
        return (
            grown[f'broadcastd_outcomes_total{{{account},channel="custom",outcome="sent"}}'] == 30
            and grown[f'broadcastd_outcomes_total{{{account},channel="template",outcome="sent"}}'] == 10
            and grown[f'broadcastd_answers_total{{{account},channel="custom",errcode="45015"}}'] == 10
            and grown[f'broadcastd_call_seconds_count{{{account},channel="custom"}}'] == 40
            and grown[f"broadcastd_jobs_accepted_total{{{account}}}"] == 1
            and grown[f'broadcastd_jobs_finished_total{{{account},state="done"}}'] == 1
            and grown['broadcastd_frames_total{op="broadcast",result="ok"}'] == 1
            and grown['broadcastd_http_requests_total{route="/jobs",status="201"}'] == 1
            and grown["broadcastd_ledger_commit_rows_sum"] >= FOLLOWERS
            and after[f'broadcastd_jobs_open{{{account},state="running"}}'] == 0
            and after["broadcastd_accepting"] == 1
            and after["process_resident_memory_bytes"] > 10_000_000
        )

    eventually(counted, 10, "the metrics show the job")


def _settled(http: HttpClient) -> dict[str, float]:
    """The figures once nothing is under way any more: they are shared for a second."""

    def quiet() -> dict[str, float] | None:
        first = http.metrics()
        name = 'broadcastd_jobs_open{account="default",state="running"}'
        return first if first[name] == 0 and first["broadcastd_tasks_busy"] == 0 else None

    eventually(quiet, 10)
    was = http.metrics()["broadcastd_uptime_seconds"]
    return eventually(lambda: now if (now := http.metrics())["broadcastd_uptime_seconds"] > was else None, 10)


def test_labels_are_bounded(daemon: DaemonProcess, http: HttpClient) -> None:
    with RawClient(daemon.port) as client:
        for number in range(50):
            client.ask({"op": f"nonsense-{number}"})
            client.ask({"content": "x", "account": f"account-{number}"})
    for number in range(20):
        http.get(f"/page-{number}")
        http.get(f"/jobs/j{number}")
    unknown = 'broadcastd_frames_total{op="unknown",result="unknown_op"}'
    names = eventually(lambda: found if (found := http.metrics()).get(unknown, 0) >= 50 else None)
    assert names['broadcastd_http_requests_total{route="none",status="404"}'] >= 20
    assert not [name for name in names if "nonsense" in name or "account-" in name or "page-" in name]
    assert len(names) < 400


def test_who_is_not_told_apart_by_the_log(daemon: DaemonProcess, http: HttpClient) -> None:
    """A refusal is in the log with what a person needs to find it."""
    http.post({"content": " " * 3, "key": "order-refused"})
    assert eventually(
        lambda: [one for one in daemon.events("frame_refused") if one["key"] == "order-refused"]
    )[0]["peer"].startswith("http 127.0.0.1:")


def test_a_full_disk_and_a_stop_show(tmp_path: Path) -> None:
    """Of a daemon of its own: one that accepts nothing, then one that stops while it sends."""
    with counting_endpoint(latency_s=4) as endpoint:
        site = sqlite_site(tmp_path / "site.db", 10)
        with daemon_process(
            tmp_path, endpoint.url, site, ledger="reserve_mb = 1000000000", **http_settings()
        ) as full:
            http = client_of(full)
            got = http.get("/readyz")
            assert got.status == 503
            assert "ledger.reserve_mb" in got.json["parts"]["ledger"]
            got = http.post({"content": "no room"})
            assert (got.status, got.json["error"]) == (503, "not_durable")
            assert http.metrics()["broadcastd_accepting"] == 0
            full.stop()
            full.settings.write_text(full.settings.read_text().replace("reserve_mb = 1000000000", ""))
            full.start()
            assert http.get("/readyz").status == 200
            job = http.post({"content": "to the end"}).json["job"]
            eventually(lambda: full.job(job)["books"]["recipients"] == 10 and endpoint.calls, what="asked")
            full.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            got = eventually(lambda: found if (found := http.get("/readyz")).status == 503 else None)
            assert got.json["parts"]["accepting"] == "stopping"
            assert got.json["parts"]["listener"] != "ok"
            assert http.get("/healthz").status == 200
            assert http.post({"content": "too late"}).json["error"] == "draining"
            assert full.process.wait(60) == 0  # type: ignore[union-attr]


def test_a_daemon_that_is_killed_has_accepted_what_it_answered(
    daemon: DaemonProcess, http: HttpClient
) -> None:
    """The last one: the daemon is another then."""
    jobs = [http.post({"content": f"before the kill {number}"}).json["job"] for number in range(5)]
    daemon.stop(signal.SIGKILL)
    daemon.start()
    for job in jobs:
        assert daemon.wait_done(job)["books"]["balanced"]
