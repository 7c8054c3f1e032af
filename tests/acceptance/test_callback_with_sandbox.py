"""The daemon and the sandbox over real HTTP: the sandbox answers, and pushes how each message ended."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.ports import eventually, free_port
from bed.pushes import AES_KEY, TOKEN
from bed.site import TOKEN as ACCESS_TOKEN
from bed.site import sqlite_site

from broadcastd.sandbox import Options, running_sandbox
from broadcastd.sandbox import openid as sandbox_openid

FOLLOWERS = 200


def site_of(folder: Path) -> str:
    url = sqlite_site(folder / "site.db", FOLLOWERS)
    with closing(sqlite3.connect(folder / "site.db")) as site:
        rows = [(sandbox_openid(number - 1), number) for number in range(1, FOLLOWERS + 1)]
        site.executemany("UPDATE tp_receiver SET openid = ? WHERE id = ?", rows)
        site.commit()
    return url


def delivered(daemon: DaemonProcess, job: str) -> Any:
    """The deliveries, once there is one for each message."""

    def whole() -> Any:
        found = daemon.job(job)["books"]["deliveries"]
        return found if sum(found.get("template", {}).values()) == FOLLOWERS else None

    return eventually(whole, 60, "every delivery is complete")


def run_job(folder: Path, api: str, port: int) -> Callable[[], Any]:
    def run() -> Any:
        more = (
            f'[callback]\nport = {port}\n[accounts.default.callback]\ntoken = "{TOKEN}"\n'
            f'aes_key = "{AES_KEY}"\n'
        )
        with daemon_process(folder, api, site_of(folder), more=more, channels=["template"]) as daemon:
            job = daemon.call({"content": "a post"})["job"]
            view = daemon.wait_done(job)
            ends = delivered(daemon, job)
            return view["books"], ends, daemon.call({"op": "info"})["accounts"]["default"]["callback"]

    return run


@pytest.mark.parametrize("mode", ["safe", "compatible"])
@pytest.mark.parametrize(
    "results", [{}, {"event_first": True}, {"zero_msgid": True}, {"event_first": True, "zero_msgid": True}]
)
async def test_every_message_gets_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, results: dict[str, Any]
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/wechat/default"
    options = Options(
        outside=FOLLOWERS,
        token=ACCESS_TOKEN,
        results={"template": {"failed:user block": 0.25}, **results},
        callback={"url": url, "token": TOKEN, "aes_key": AES_KEY, "mode": mode},
    )
    monkeypatch.setenv("BROADCASTD_ACCOUNTS__DEFAULT__APP_ID", options.app_id)
    async with running_sandbox(options) as sandbox:
        books, ends, view = await asyncio.to_thread(run_job(tmp_path, sandbox.url, port))
    assert books["sent"] == FOLLOWERS
    assert set(ends) == {"template"}
    assert set(ends["template"]) == {"delivered", "blocked"}
    assert ends["template"]["blocked"] in range(20, 80)
    assert (view["received"], view["refused"]) == (FOLLOWERS, 0)
