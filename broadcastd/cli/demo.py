"""`broadcastd demo`: the whole product in a minute, against the sandbox."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from broadcastd.cli.main import Exit
from broadcastd.cli.progress import follow
from broadcastd.cli.show import books_line
from broadcastd.errors import BroadcastdError, NoDaemonError
from broadcastd.sandbox.openids import openid
from broadcastd.wire import dial

PORT = 9090
BROADCASTD = [sys.executable, "-m", "broadcastd"]
SETTINGS = """\
[server]
port = {port}

[http]
enabled = false

[ledger]
url = "sqlite:///ledger.db"
identity_dir = "identity"

[accounts.default]
api_base = "{api}"

[accounts.default.audience]
url = "sqlite:///site.db"

[accounts.default.template]
template_id = "SANDBOX-TEMPLATE"

[accounts.default.template.data]
keyword1 = "求購信息"
keyword2 = "{{content}}"
keyword3 = "{{phone}}"
keyword4 = "{{now}}"
"""

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command was asked for."""

    keep: bool
    recipients: int
    latency_ms: int


@click.command()
@click.option("--keep", is_flag=True, help="Leave it running, and say what to try next.")
@click.option(
    "--recipients", type=click.IntRange(min=1), default=1500, show_default=True, help="How many followers."
)
@click.option(
    "--latency-ms",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How long the imitated WeChat takes to answer.",
)
def demo(keep: bool, recipients: int, latency_ms: int) -> None:
    """Show the whole product in a minute, with an imitation of WeChat.

    A sandbox and a daemon are started, a post is paid for and followed, and the books are compared with what
    the followers got. Nothing leaves this machine; everything is in a folder of its own, and gone at the end.
    """
    options = Options(keep, recipients, latency_ms)
    folder = Path(tempfile.mkdtemp(prefix="broadcastd-demo-"))
    with contextlib.ExitStack() as stack:
        if not options.keep:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        client = _client_library()
        sandbox = _start_sandbox(stack, options, folder)
        _fill_site(folder / "site.db", options.recipients, sandbox["token"])
        port = _start_daemon(stack, options, folder, sandbox["url"])
        job = _pay(client, port)
        follow(dial.stream("127.0.0.1", port, {"op": "tail", "job": job, "every_s": 0.2}, 600))
        right = _compare(port, job, sandbox["control"], options.recipients)
        if options.keep:
            _say_what_next(folder, port, sandbox, job)
    if not options.keep:
        console.print("everything is stopped.")
    if not right:
        sys.exit(Exit.FAILED)


def _client_library() -> Any:
    """The one thing of the demo that is a distribution of its own."""
    try:
        return importlib.import_module("broadcastd_client")
    except ImportError as error:
        raise BroadcastdError(
            "the demo pays as a payment handler does, with the client library: pip install broadcastd-client"
            " (or ./client of the checkout)"
        ) from error


def _start_sandbox(stack: contextlib.ExitStack, options: Options, folder: Path) -> dict[str, Any]:
    outside = options.recipients // 5
    command = [
        *BROADCASTD, "sandbox", "--json", "--port", "0", "--inside", str(options.recipients - outside),
        "--outside", str(outside), "--latency-ms", str(options.latency_ms),
    ]  # fmt: skip
    started = _start(stack, options, folder, "sandbox", command, stdout=subprocess.PIPE)
    assert started.stdout is not None
    sandbox: dict[str, Any] = json.loads(started.stdout.readline())
    console.print(
        f"[bold]1.[/] a sandbox imitates WeChat on {sandbox['url']}:"
        f" {options.recipients - outside:,} followers inside the 48 h window, {outside:,} outside"
    )
    return sandbox


def _fill_site(path: Path, recipients: int, token: str) -> None:
    """The site's own database, as the default settings expect it."""
    with contextlib.closing(sqlite3.connect(path)) as site:
        site.execute(
            "CREATE TABLE tp_receiver (id INTEGER PRIMARY KEY, openid TEXT NOT NULL, expire_time TEXT,"
            " send_status INTEGER NOT NULL, receive_status INTEGER NOT NULL)"
        )
        site.execute("CREATE TABLE tp_accesstoken (id INTEGER PRIMARY KEY, accesstoken TEXT NOT NULL)")
        site.executemany(
            "INSERT INTO tp_receiver VALUES (?, ?, NULL, 1, 1)",
            ((number + 1, openid(number)) for number in range(recipients)),
        )
        site.execute("INSERT INTO tp_accesstoken (accesstoken) VALUES (?)", (token,))
        site.commit()


def _start_daemon(stack: contextlib.ExitStack, options: Options, folder: Path, api: str) -> int:
    port = _free_port()
    settings = folder / "broadcastd.toml"
    settings.write_text(SETTINGS.format(port=port, api=api), encoding="utf-8")
    daemon = _start(stack, options, folder, "daemon", [*BROADCASTD, "run", "-c", str(settings)])
    _wait_for(port, daemon, folder)
    taken = "" if port == PORT else f" ({PORT} is taken)"
    console.print(f"[bold]2.[/] broadcastd listens on 127.0.0.1:{port}{taken}: 60 tasks, a durable ledger")
    return port


def _start(
    stack: contextlib.ExitStack,
    options: Options,
    folder: Path,
    name: str,
    command: list[str],
    *,
    stdout: int | None = None,
) -> "subprocess.Popen[str]":
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdout=log if stdout is None else stdout,
            stderr=log,
            text=True,
            start_new_session=options.keep,
        )
    (folder / f"{name}.pid").write_text(f"{process.pid}\n")
    if options.keep:
        stack.push(lambda failed, *_: _stop(process) if failed else None)
    else:
        stack.callback(_stop, process)
    return process


def _stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
    if process.stdout is not None:
        process.stdout.close()


def _free_port() -> int:
    for wanted in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BroadcastdError("no free port")


def _wait_for(port: int, daemon: "subprocess.Popen[str]", folder: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise BroadcastdError(f"the daemon did not start:\n{(folder / 'daemon.log').read_text()}")
        with contextlib.suppress(NoDaemonError):
            dial.call("127.0.0.1", port, {"op": "ping"})
            return
        time.sleep(0.05)
    raise BroadcastdError("the daemon does not answer")


def _pay(library: Any, port: int) -> str:
    """What a payment handler does: one call, answered once the job is on disk."""
    client = library.Client(port=port)
    key = f"order-{os.getpid()}"
    started_s = time.monotonic()
    reply = client.broadcast("求購二手挖掘機一台,價格面議", phone="13800000000", key=key, ref="post-17")
    took_ms = (time.monotonic() - started_s) * 1000
    console.print(
        f"[bold]3.[/] a customer pays: the client library sends the post, the daemon answers in"
        f" {took_ms:.0f} ms, job {reply['job']} is on disk"
    )
    again = client.broadcast("求購二手挖掘機一台,價格面議", phone="13800000000", key=key, ref="post-17")
    console.print(
        f"[bold]4.[/] the payment provider repeats its call: same key, same job"
        f" ({'repeat' if again['repeat'] else 'NOT RECOGNISED'}), nothing is sent twice"
    )
    return str(reply["job"])


def _compare(port: int, job: str, control: str, recipients: int) -> bool:
    """The books against what the followers' side counted."""
    books = dial.call("127.0.0.1", port, {"op": "job", "job": job})["books"]
    with urllib.request.urlopen(f"{control}/sandbox/summary") as answer:
        received = json.load(answer)
    console.print(f"[bold]5.[/] the books:      {books_line(books)}")
    console.print(
        f"   the followers:  {received['followers_reached']:,} different followers got"
        f" {received['delivered']:,} messages, {received['followers_repeated'] or 'none'} of them twice"
    )
    right = (
        books["balanced"]
        and books["sent"] == recipients == received["followers_reached"] == received["delivered"]
    )
    console.print("   [green]they agree[/]" if right else "   [red]THEY DO NOT AGREE[/]")
    return bool(right)


def _say_what_next(folder: Path, port: int, sandbox: dict[str, Any], job: str) -> None:
    here = f"{Path(sys.executable).parent}/broadcastd"
    settings = f"-c {folder / 'broadcastd.toml'}"
    console.print(
        f"""
It goes on running. Try:

  echo '{{"content":"hello from netcat","phone":"110"}}' | nc -N 127.0.0.1 {port}
  echo '{{"op":"tail","job":"{job}"}}' | nc -N 127.0.0.1 {port}
  {here} send {settings} "another post" --key order-18
  {here} jobs {settings}
  {here} job {settings} {job}
  {here} info {settings}
  curl -s {sandbox["control"]}/sandbox/summary

Logs and databases are in {folder}. To stop it:

  kill $(cat {folder}/daemon.pid {folder}/sandbox.pid)
""",
        markup=False,
    )
