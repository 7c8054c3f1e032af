"""Whoever drips the head of an HTTP request, over all places that a port has, keeps nobody out of it."""

import time
from pathlib import Path

import pytest
from bed.attackers import Attack, Attackers
from bed.daemon import daemon_process
from bed.endpoint import counting_endpoint
from bed.http_port import HttpClient
from bed.ports import free_port
from bed.site import sqlite_site

HEAD = "POST /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
BODY = HEAD.removesuffix("X-Slow: ") + "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
SLOW, PLACES = 100, 30
LIMITS = f"port = {{port}}\nmax_connections = {PLACES}\nidle_timeout_s = 2\n"
ATTACKED_S = 4
"""Long enough to be cut for being slow, and to come again."""


@pytest.mark.parametrize(
    ("section", "path", "status"), [("http", "healthz", 200), ("callback", "wechat/default", 403)]
)
@pytest.mark.parametrize("begins", [HEAD, BODY], ids=["head", "body"])
def test_slowloris(tmp_path: Path, section: str, path: str, status: int, begins: str) -> None:
    port = free_port()
    limits = LIMITS.format(port=port)
    sections = (
        {"http": limits}
        if section == "http"
        else {"more": f'[callback]\n{limits}[accounts.default.callback]\ntoken = "token"'}
    )
    site = sqlite_site(tmp_path / "site.db", 1)
    with counting_endpoint() as endpoint, daemon_process(tmp_path, endpoint.url, site, **sections) as daemon:
        attack = Attack(slow=SLOW, begins=begins.format(path=path), back_after_s=0.5)
        client = HttpClient(port)
        with Attackers(port, attack) as attackers:
            until = time.monotonic() + ATTACKED_S
            while time.monotonic() < until:
                assert client.ask("GET", f"/{path}").status == status
            assert daemon.call({"op": "ping"})["ok"]
        assert attackers.counts["slow_cut"] >= SLOW - PLACES
        assert "Traceback" not in daemon.log
