"""A secret of its own in every place that takes one; then all goes wrong, and none of them is seen."""

import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.http_port import FORM, client_of, http_settings
from bed.mariadb import PASSWORD, PrivateMariaDb
from bed.ports import eventually, free_port
from bed.pushes import Platform, text
from bed.wire import RawClient
from pydantic import SecretStr

from broadcastd import settings_file

TOKEN, SHOP, APP, CALLBACK = "planted01token", "planted02shop", "planted03app", "planted04callback"
FORWARD, QUERY, DATABASE = "planted05forward", "planted06query", "planted07database"
AES, PREVIOUS = "planted08aes" + "A" * 31, "planted09previous" + "B" * 26
PLANTED = (TOKEN, SHOP, APP, CALLBACK, FORWARD, QUERY, DATABASE, AES, PREVIOUS)
REFUSED_HERE = "http://127.0.0.1:9"


class Bed:
    def __init__(self, daemon: DaemonProcess, callback_port: int) -> None:
        self.daemon = daemon
        self.callback_port = callback_port
        self.seen: list[str] = []

    def ask(self, frame: dict[str, object]) -> dict[str, object]:
        reply = self.daemon.call(frame)
        self.seen.append(json.dumps(reply))
        return reply

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "broadcastd", *arguments, "-c", str(self.daemon.settings)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        self.seen.append(done.stdout + done.stderr)

    def push(self, query: dict[str, str], body: bytes) -> None:
        url = f"http://127.0.0.1:{self.callback_port}/wechat/default?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
                self.seen.append(answer.read().decode())
        except urllib.error.HTTPError as error:
            self.seen.append(error.read().decode())


@pytest.fixture
def bed(tmp_path: Path, mariadb: PrivateMariaDb) -> Iterator[Bed]:
    """WeChat refuses connections, the database refuses the password, the site's callback is not there."""
    port = free_port()
    server = f'token = "{TOKEN}"\n[server.tokens.shop]\ntoken = "{SHOP}"\n[callback]\nport = {port}'
    more = f"""
[accounts.default.token]
source = "api"
[accounts.default.callback]
token = "{CALLBACK}"
aes_key = "{AES}"
previous_aes_key = "{PREVIOUS}"
forward_to = "http://site:{FORWARD}@127.0.0.1:9/x?k={QUERY}"
"""
    with daemon_process(
        tmp_path, REFUSED_HERE, mariadb.url.replace(PASSWORD, DATABASE), server=server,
        account=f'app_id = "wx0123456789abcdef"\napp_secret = "{APP}"', more=more,
        cold=True, **http_settings(),
    ) as daemon:  # fmt: skip
        yield Bed(daemon, port)


def provoke(bed: Bed) -> None:
    """Have everything that a secret is for go wrong."""
    mine = {"token": TOKEN}
    job = bed.ask({"content": "x", "key": "k", **mine})["job"]
    bed.ask({"content": "x", "to": ["o"], **mine})
    for token in (SHOP + "x", TOKEN[:-1], None):
        bed.ask({"op": "jobs", "token": token})
    bed.ask({"op": "jobs", "token": SHOP})
    bed.ask({"op": "no such", "colour": TOKEN[:5], **mine})
    with RawClient(bed.daemon.port) as client:
        client.send(f'{{"op":"job","job":17,"token":"{TOKEN}","token":"{SHOP}"}}\n')
        bed.seen.append(json.dumps(client.reply()))
        client.send(f'{{"op":"ping","token":"{TOKEN}",}}\n')
        bed.seen.append(json.dumps(client.reply()))
    with RawClient(bed.daemon.port) as client:
        client.send(f"token={TOKEN}\n")
        bed.seen.append(json.dumps(client.reply()))
    _provoke_http(bed)
    push = Platform(token=CALLBACK, aes_key=AES).safe(text("o1", "0"))
    bed.push(push.query, push.body)
    bed.push({**push.query, "signature": "0" * 40, "msg_signature": "0" * 40}, push.body)
    eventually(lambda: bed.daemon.events("forward_failed"), what="the site's callback is asked")
    waits = lambda: "refuses the password" in str(bed.ask({"op": "job", "job": job, **mine}))  # noqa: E731
    eventually(waits, 60, "the database refuses the password")
    for frame in ({"tokn": TOKEN}, {"op": {"token": TOKEN}}, {"content": {"token": TOKEN}}, {"key": [TOKEN]}):
        bed.ask({**frame, **mine})
    for op in ("info", "jobs", "quota", "clear_quota", "rate"):
        bed.ask({"op": op, **mine})


def _provoke_http(bed: Bed) -> None:
    http = client_of(bed.daemon)
    for token in (TOKEN, SHOP, TOKEN[:-1]):
        shown = {"Authorization": f"Bearer {token}"}
        answers = [
            http.get(path, **shown) for path in ("/readyz", "/metrics", "/jobs", f"/jobs?token={token}")
        ]
        answers += [http.post({"content": "y", "tokn": token}, **shown), http.post({"token": [token]})]
        answers += [http.post(f"content=y&token={token}&tokn={token}", **FORM), http.post(f"token={token}")]
        bed.seen += [f"{one.headers} {one.body.decode()}" for one in answers]


def test_none_is_seen_anywhere(bed: Bed) -> None:
    provoke(bed)
    for command in (
        ["config", "show"], ["config", "show", "--json"], ["config", "check"], ["info"], ["jobs"], ["quota"],
        ["audience", "sync"], ["run"],
    ):  # fmt: skip
        bed.run(*command)
    assert bed.daemon.process is not None
    bed.seen.append(Path(f"/proc/{bed.daemon.process.pid}/cmdline").read_text())
    assert bed.daemon.stop() == 0
    everything = "\n".join([*bed.seen, bed.daemon.log])
    assert "Traceback" not in everything
    for secret in PLANTED:
        assert secret not in everything, f"{secret}: {everything[everything.index(secret) - 300 :][:400]}"


def test_nor_when_nothing_starts_nor_in_what_is_printed_of_settings(bed: Bed) -> None:
    bed.daemon.stop()
    settings = bed.daemon.settings
    loaded = settings_file.load(settings)
    assert loaded.server.token == SecretStr(TOKEN)
    bed.seen += [repr(loaded), str(loaded), loaded.model_dump_json(), str(loaded.model_dump())]
    text = settings.read_text()
    for url in (f"mysql://u:{DATABASE}@127.0.0.1:9/b", f"mysql://u:{DATABASE}@127.0.0.1:9/b?tls=on"):
        settings.write_text(text.replace("sqlite:///ledger.db", url))
        for command in (["run"], ["ledger", "init"], ["config", "show"]):
            bed.run(*command)
    settings.write_text(text.replace("[pool]", f'[pool]\ntasks = "{TOKEN}@"'))
    bed.run("config", "check")
    everything = "\n".join(bed.seen)
    assert "cannot be opened" in everything
    for secret in PLANTED:
        assert secret not in everything
