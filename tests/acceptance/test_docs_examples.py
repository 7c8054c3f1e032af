"""The examples of docs/examples and of the READMEs, run as they are printed, against the real daemon.

Only the port is another one, since 9090 may be taken where the tests run.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import CountingEndpoint, counting_endpoint
from bed.ports import eventually, free_port
from bed.site import openid, sqlite_site
from bed.wire import RawClient

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGES = ("README.md", "README.zh-CN.md")
FOLLOWERS = [openid(number) for number in range(1, 31)]


class Bed:
    """A daemon and the followers' side, which knows who got which text."""

    def __init__(self, daemon: DaemonProcess, endpoint: CountingEndpoint) -> None:
        self.daemon = daemon
        self._endpoint = endpoint

    def run(self, *command: str | Path, cwd: Path = EXAMPLES) -> str:
        """A program that must end well; what it printed."""
        environment = {**os.environ, "BROADCASTD_PORT": str(self.daemon.port)}
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True, text=True, timeout=60, cwd=cwd, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def with_port(self, text: str) -> str:
        """An example with the port of this daemon instead of the default one."""
        assert "9090" in text
        return text.replace("9090", str(self.daemon.port))

    def jobs(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = self.daemon.call({"op": "jobs", "limit": 1000})["jobs"]
        return jobs

    def everybody_got(self, job: str, content: str) -> None:
        """The job is done, and each follower got the text once."""
        books = self.daemon.wait_done(job)["books"]
        assert books["sent"] == len(FOLLOWERS)
        assert books["balanced"]
        received = Counter(
            body["touser"]
            for body in self._endpoint.bodies
            if content in json.dumps(body, ensure_ascii=False)
        )
        assert received == Counter(FOLLOWERS)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with counting_endpoint() as endpoint:
        endpoint.keep_bodies = True
        site = sqlite_site(tmp_path / "site.db", len(FOLLOWERS))
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            yield Bed(daemon, endpoint)


def _block(page: str, language: str, holds: str) -> str:
    """The fenced block of a page in this language that holds these words."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found = [block for block in blocks if holds in block]
    assert len(found) == 1, f"{page} has {len(found)} {language} blocks with {holds!r}"
    return str(found[0])


@pytest.mark.parametrize("page", PAGES)
def test_the_python_example(bed: Bed, page: str) -> None:
    printed = bed.run(sys.executable, "-c", _block(page, "python", "import broadcastd_client"))
    (job,) = bed.jobs()
    assert job["job"] in printed
    assert (job["key"], job["ref"], job["phone"]) == ("order-17", "post-17", "13800000000")
    bed.everybody_got(job["job"], "求購二手挖掘機一台")


@pytest.mark.parametrize("page", PAGES)
def test_the_php_example(bed: Bed, tmp_path: Path, page: str) -> None:
    script = tmp_path / "paid.php"
    script.write_text(bed.with_port(_block(page, "php", "broadcast(")), encoding="utf-8")
    # PHP looks for broadcast.php beside the script, then in the folder where it is started.
    printed = bed.run("php", script)
    (job,) = bed.jobs()
    assert job["job"] in printed
    assert (job["key"], job["phone"]) == ("order-18", "13800000000")
    bed.everybody_got(job["job"], "求購二手挖掘機一台")


@pytest.mark.parametrize("page", PAGES)
def test_the_netcat_examples(bed: Bed, page: str) -> None:
    # `nc` may be nmap's, where that is installed as well.
    netcat = 'nc() { nc.openbsd "$@"; }; ' if shutil.which("nc.openbsd") else ""
    example = bed.with_port(_block(page, "bash", "hello from netcat"))
    reply = json.loads(bed.run("bash", "-c", netcat + example))
    assert reply["ok"] is True
    bed.everybody_got(reply["job"], "hello from netcat")
    watch = re.sub(r"j[0-9a-z]{15}", reply["job"], bed.with_port(_block(page, "bash", '"op":"tail"')))
    lines = [json.loads(line) for line in bed.run("bash", "-c", netcat + watch).splitlines()]
    assert lines[-1]["state"] == "done"


@contextmanager
def _who_says(answer: bytes) -> Iterator[int]:
    """The port of something that takes one connection, says this, and waits until the client leaves."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer)
                while connection.recv(65536):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(30)


def _php(bed: Bed, frame: str, port: int, seconds: float = 30) -> str:
    """Call broadcast() on a frame in PHP; its reply as JSON, or `code: message` of what it threw."""
    call = f"broadcast({frame}, 'tcp://127.0.0.1:{port}', {seconds})"
    return bed.run(
        "php", "-d", "error_reporting=-1", "-d", "display_errors=1", "-r",
        f"require 'broadcast.php'; try {{ echo json_encode({call}); }}"
        " catch (RuntimeException $e) { echo $e->getCode(), ': ', $e->getMessage(); }",
    )  # fmt: skip


def test_the_php_client_repeats_and_refusals(bed: Bed) -> None:
    assert len((EXAMPLES / "broadcast.php").read_text(encoding="utf-8").splitlines()) <= 30
    port = bed.daemon.port
    first = json.loads(_php(bed, "['content' => '求購/出售', 'key' => 'order-1']", port))
    again = json.loads(_php(bed, "['content' => '求購/出售', 'key' => 'order-1']", port))
    assert (first["repeat"], again["repeat"]) == (False, True)
    assert first["job"] == again["job"]
    bed.everybody_got(first["job"], "求購/出售")
    conflict = _php(bed, "['content' => 'other', 'key' => 'order-1']", port)
    assert conflict.startswith("0: refused, conflict: key")
    assert _php(bed, "['content' => '']", port) == "0: refused, bad_content: content is empty"


def test_the_php_client_when_nobody_answers(bed: Bed) -> None:
    port = free_port()
    unreachable = _php(bed, "['content' => 'x']", port)
    assert unreachable.startswith(f"1: broadcastd cannot be reached at tcp://127.0.0.1:{port}: ")
    with _who_says(b"") as silent:
        assert _php(bed, "['content' => 'x']", silent, 0.3).endswith("did not answer; it may have the job")
    with _who_says(b"HTTP/1.1 400 Bad Request\r\n") as other:
        says = _php(bed, "['content' => 'x']", other)
        assert says == "0: refused, this is not broadcastd: HTTP/1.1 400 Bad Request"


def test_the_old_client(bed: Bed) -> None:
    bed.run("php", "old_client.php", "求購 old", "0", "110", "127.0.0.1", str(bed.daemon.port))
    (job,) = eventually(bed.jobs, what="the old client's job is accepted")
    assert (job["flag"], job["phone"], job["key"]) == (0, "110", None)
    bed.everybody_got(job["job"], "求購 old")
    with RawClient(bed.daemon.port) as client:
        same = client.ask({"content": "求購 old", "flag": 0, "phone": "110"})
    assert same["repeat"] is True
