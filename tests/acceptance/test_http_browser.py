"""A page of another site, in a real browser on the daemon's machine, tries to send. Nothing is accepted."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from bed.daemon import daemon_process
from bed.endpoint import counting_endpoint
from bed.http_port import client_of, http_settings
from bed.ports import eventually
from bed.site import sqlite_site

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = """<!doctype html><meta charset="utf-8"><title>free kittens</title>
<iframe name="sink1"></iframe><iframe name="sink2"></iframe>
<script>
const ways = [];
for (const host of ["127.0.0.1", "localhost", "kittens.example"]) {
  for (const port of [HTTP, FRAMES]) {
    const there = `http://${host}:${port}/jobs`;
    const json = '{"content":"from a page"}\\n';
    const send = (mode, type, body) =>
      ways.push(fetch(there, {method: "POST", mode, headers: {"Content-Type": type}, body}));
    send("no-cors", "text/plain", json);
    send("no-cors", "application/x-www-form-urlencoded", "content=from+a+page");
    send("cors", "application/x-www-form-urlencoded", "content=from+a+page");
    send("cors", "application/json", json);
    ways.push(fetch(there, {mode: "no-cors"}));
    navigator.sendBeacon(there, new URLSearchParams({content: "from a page"}));
    navigator.sendBeacon(there, json);
  }
}
let sent = 0;
for (const [port, type, name] of [
  [HTTP, "application/x-www-form-urlencoded", "content"],
  [FRAMES, "text/plain", '{"content":"from a page","x":"'],
]) {
  const form = document.createElement("form");
  Object.assign(form, {method: "POST", action: `http://127.0.0.1:${port}/jobs`, enctype: type});
  form.target = `sink${++sent}`;
  const field = document.createElement("input");
  Object.assign(field, {name, value: type === "text/plain" ? '"}' : "from a page"});
  form.append(field);
  document.body.append(form);
  ways.push(new Promise((done) => {
    document.getElementsByName(form.target)[0].addEventListener("load", done);
    setTimeout(done, 5000);
  }));
  form.submit();
}
Promise.allSettled(ways).then((all) =>
  fetch("/done", {method: "POST", body: JSON.stringify(all.map((one) => one.value && one.value.type))}));
</script>"""


class Attacker:
    """A site that somebody looks at."""

    def __init__(self, page: str) -> None:
        self.page = page.encode()
        self.done = ""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        attacker = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(attacker.page)

            def do_POST(self) -> None:
                attacker.done = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def _served(page: str) -> Iterator[Attacker]:
    attacker = Attacker(page)
    thread = threading.Thread(target=attacker.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield attacker
    finally:
        attacker.server.shutdown()
        attacker.server.server_close()
        thread.join(10)


@contextmanager
def _looking_at(url: str, profile: Path) -> Iterator[None]:
    assert BROWSER
    browser = subprocess.Popen(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-dev-shm-usage",
            # The attacker's name server says that the site is this machine: DNS rebinding.
            "--host-resolver-rules=MAP kittens.example 127.0.0.1",
            # What keeps pages from this machine in some browsers must not be what passes the test.
            "--disable-features=BlockInsecurePrivateNetworkRequests,LocalNetworkAccessChecks",
            f"--user-data-dir={profile}", url,
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        browser.terminate()
        browser.wait(30)


@pytest.mark.skipif(BROWSER is None, reason="needs Debian's chromium (scripts/test installs it)")
def test_a_page_elsewhere_cannot_send(tmp_path: Path) -> None:
    with counting_endpoint() as endpoint:
        site = sqlite_site(tmp_path / "site.db", 5)
        with daemon_process(tmp_path, endpoint.url, site, **http_settings()) as daemon:
            http = client_of(daemon)
            # The frames' port is named as any other: 9090 itself is on no browser's list of closed ports.
            page = PAGE.replace("HTTP", str(http.port), 2).replace("FRAMES", str(daemon.port), 2)
            with (
                _served(page) as attacker,
                _looking_at(f"http://kittens.example:{attacker.port}/", tmp_path / "profile"),
            ):
                eventually(lambda: attacker.done, 60, "the page has tried everything")
            assert daemon.call({"op": "jobs"})["jobs"] == []
            # It did get as far as both ports, and was told nothing that it could read.
            refused = http.metrics()
            for status in (403, 421):
                assert refused[f'broadcastd_http_requests_total{{route="/jobs",status="{status}"}}'] >= 5
            assert len(daemon.events("request_refused")) == 1  # a line a minute
            assert [one for one in daemon.events("frame_refused") if one["error"] == "bad_frame"]
            # `load`: of a form, into a frame that the page cannot look into either.
            assert set(json.loads(attacker.done)) == {None, "load"}
            # The same bytes from a machine are a job.
            assert (
                http.post("content=from+a+machine", Content_Type="application/x-www-form-urlencoded").status
                == 201
            )
            eventually(lambda: endpoint.calls == 5)
