"""The HTTP port beyond loopback: TLS, and tokens with rights. And when it cannot be opened."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed.certificates import Authority
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import counting_endpoint
from bed.http_port import FORM, HttpClient, client_of, http_settings
from bed.ports import eventually
from bed.site import sqlite_site

SECRETS = ("all-of-it", "only-sends", "only-reads", "reads-the-shop")
SERVER = """
token = "all-of-it"
[server.tokens.pay]
token = "only-sends"
[server.tokens.watch]
token = "only-reads"
rights = ["read"]
[server.tokens.shop]
token = "reads-the-shop"
rights = ["read"]
accounts = ["shop"]
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, HttpClient]]:
    folder = tmp_path_factory.mktemp("tokens")
    ours = Authority(folder)
    ours.issue("server", "127.0.0.1")
    http = http_settings('host = "0.0.0.0"\ntls_cert = "server.pem"\ntls_key = "server.key"')
    with counting_endpoint() as endpoint:
        site = sqlite_site(folder / "site.db", 10)
        with daemon_process(folder, endpoint.url, site, server=SERVER, **http) as daemon:
            yield daemon, client_of(daemon, ssl.create_default_context(cafile=ours.ca))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_health_is_open_and_tells_strangers_nothing(there: tuple[DaemonProcess, HttpClient]) -> None:
    _, http = there
    assert http.get("/healthz").json == {"status": "ok"}
    for headers in ({}, bearer("wrong"), bearer("only-sends"), {"Authorization": "Basic YWxs"}):
        got = http.get("/readyz", **headers)
        assert (got.status, got.json) == (200, {"status": "ready"})
    assert set(http.get("/readyz", **bearer("only-reads")).json["parts"].values()) == {"ok"}


def test_metrics_and_lists_need_the_right_to_read(there: tuple[DaemonProcess, HttpClient]) -> None:
    _, http = there
    for path in ("/metrics", "/jobs"):
        got = http.get(path)
        assert (got.status, got.json["error"]) == (401, "unauthorized")
        assert got.headers["WWW-Authenticate"] == "Bearer"
        assert http.get(path, **bearer("only-read")).status == 401
        assert http.get(path, Authorization="Basic only-reads").status == 401
        got = http.get(path, **bearer("only-sends"))
        assert (got.status, got.json["error"]) == (403, "forbidden")
        assert http.get(path, **bearer("only-reads")).status == 200
        assert http.get(path, **bearer("all-of-it")).status == 200
    # Figures are of all accounts; a list is of those that the token is for.
    assert http.get("/metrics", **bearer("reads-the-shop")).status == 403
    assert http.get("/jobs", **bearer("reads-the-shop")).json["jobs"] == []


def test_a_job_needs_the_right_to_send(there: tuple[DaemonProcess, HttpClient]) -> None:
    _, http = there
    for token, status in (("", 401), ("wrong", 401), ("only-reads", 403)):
        headers = bearer(token) if token else {}
        assert http.post({"content": "x"}, **headers).status == status
        body = {"content": "x", "token": token} if token else {"content": "x"}
        assert http.post(body).status == status
        assert http.post(f"content=x&token={token}" if token else "content=x", **FORM).status == status
    jobs = [
        http.post({"content": "by header"}, **bearer("only-sends")),
        http.post({"content": "by body", "token": "only-sends"}),
        http.post("content=by+form&token=only-sends", **FORM),
        http.post("content=form+and+header", **FORM, **bearer("only-sends")),
    ]
    assert [got.status for got in jobs] == [201] * 4
    assert http.post({"content": "x", "token": "only-sends"}, **bearer("only-sends")).status == 400
    for got in jobs:
        view = eventually(lambda got=got: _done(http, got.json["job"]), 60)  # type: ignore[misc]
        assert view["books"]["sent"] == 10


def _done(http: HttpClient, job: str) -> dict[str, object] | None:
    view = http.get(f"/jobs/{job}", **bearer("only-sends")).json
    return view if view["state"] == "done" else None


def test_no_token_is_shown_or_logged(there: tuple[DaemonProcess, HttpClient]) -> None:
    daemon, http = there
    answers = b"".join(
        http.post(body, **headers).body
        for body in ({"content": "x"}, {"content": "", "token": "only-sends"}, {"colour": "only-sends"})
        for headers in (bearer("only-sends"), bearer("only-reads"), {})
    )
    answers += http.get("/metrics", **bearer("only-reads")).body
    for secret in SECRETS:
        assert secret not in daemon.log
        assert secret.encode() not in answers


@pytest.mark.parametrize(
    ("http", "code", "words"),
    [
        ("port = {busy}", 1, "in use by"),
        ('host = "0.0.0.0"', 4, "http.host: listening on 0.0.0.0 (beyond loopback) needs server.token"),
        ('tls_cert = "nowhere.pem"', 4, "http.tls_cert"),
    ],
)
def test_a_port_that_cannot_be_opened_ends_the_start(
    tmp_path: Path, there: tuple[DaemonProcess, HttpClient], http: str, code: int, words: str
) -> None:
    settings = http.format(busy=there[1].port)
    daemon = DaemonProcess(
        tmp_path, "http://127.0.0.1:1", sqlite_site(tmp_path / "site.db", 1), http=settings
    )
    done = subprocess.run(
        [sys.executable, "-m", "broadcastd", "run", "-c", str(daemon.settings)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if "{busy}" in http:
        assert "http.port" in done.stderr
