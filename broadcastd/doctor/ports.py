"""Who listens where, and what the daemon says of itself."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

from broadcastd import __version__
from broadcastd.doctor.finding import Finding, Findings, fail, ok, skipped, warn
from broadcastd.doctor.subject import EVERYWHERE, REPLY_S, Daemon, Line, Subject
from broadcastd.ledgers.inspection import lock_holder
from broadcastd.server_settings import LOOPBACK, ServerSettings
from broadcastd.wire.port_holder import port_holder

CONNECT_S = 2.0
RESTART = "systemctl restart broadcastd (without systemd: broadcastd restart)"
START = "systemctl start broadcastd (without systemd: broadcastd start)"


async def port(subject: Subject) -> Findings:
    """The frames' port."""
    daemon = await subject.daemon()
    server = subject.whole.server
    holder = await asyncio.to_thread(lambda: port_holder(server.port))
    file = subject.ledger_file
    at_work = lock_holder(file) if file is not None else None
    if daemon.line is Line.UNTRUSTED:
        return [judge_untrusted(server, daemon, holder)]
    found = [judge_port(server, daemon, holder, at_work)]
    if server.host not in LOOPBACK and not server.tls_cert:
        found.append(
            warn(
                f"{server.host} is beyond loopback, and the connection is not encrypted: whoever is between"
                " reads the token",
                "set server.tls_cert and server.tls_key, or listen on 127.0.0.1 and tunnel the port",
            )
        )
    return found


def judge_untrusted(server: ServerSettings, daemon: Daemon, holder: str) -> Finding:
    """Without words: the settings' own certificate is to blame, which another check says."""
    there = f"{server.host}:{server.port}"
    if not daemon.words:
        return skipped(
            f"{there}: the settings' certificate cannot be used, so nobody can be asked: see settings"
        )
    return fail(
        f"{there}: {holder} listens: {daemon.words}",
        f"it has another certificate than these settings: {RESTART}",
    )


def judge_port(server: ServerSettings, daemon: Daemon, holder: str, at_work: int | None) -> Finding:
    """`holder`: who listens on it, if somebody does; `at_work`: the process that has the ledger."""
    there = f"{server.host}:{server.port}"
    match daemon.line:
        case Line.ANSWERS:
            return ok(f"{there}: broadcastd {daemon.reply.get('version')}, pid {daemon.pid}, answers")
        case Line.REFUSES:
            return warn(
                f"{there}: a broadcastd answers, and refuses: {daemon.words}",
                f"it runs with other settings than these, or with older ones: {RESTART}",
            )
        case Line.FOREIGN:
            return fail(
                f"{there} is held by {holder}, which is not broadcastd",
                "stop that, or set server.port to another one",
            )
        case Line.HANGS:
            return fail(
                f"{there}: {holder} listens, and does not answer within {REPLY_S:g} s",
                f"nothing that was accepted is lost by it: {RESTART}",
            )
    if at_work is not None:
        return fail(
            f"{there}: nobody listens, yet the process {at_work} has the ledger to itself",
            f"it listens elsewhere, or is starting or ending: see its log, then {RESTART}",
        )
    return warn(f"{there}: nobody listens; the daemon is not running", START)


async def other_ports(subject: Subject) -> Findings:
    """The callback's port, and the one for machines."""
    line = (await subject.daemon()).line
    if line is Line.UNTRUSTED:
        return [skipped("the daemon cannot be asked: see port")]
    runs = line is Line.ANSWERS
    findings = []
    for what, host, number in _others(subject):
        listens = await asyncio.to_thread(_listens, host, number)
        holder = await asyncio.to_thread(port_holder, number) if listens else ""
        findings.append(judge_other(f"{what} {host}:{number}", runs, holder))
    return findings or [skipped("none is in the settings: no account has a callback")]


def judge_other(there: str, runs: bool, holder: str) -> Finding:
    """`runs`: the daemon does; `holder`: who listens there, or nobody."""
    if runs and not holder:
        return fail(f"{there}: nobody listens, although the daemon runs", f"see its log, then {RESTART}")
    if holder and not runs:
        return fail(f"{there} is held by {holder}", "stop that, or set another port")
    return ok(f"{there}: {f'{holder} listens' if holder else 'free'}")


def _others(subject: Subject) -> Iterator[tuple[str, str, int]]:
    settings = subject.whole
    hears = any(account.callback is not None for account in settings.accounts.values())
    if hears and settings.callback.port:  # 0: whichever is free
        yield "callback", settings.callback.host, settings.callback.port
    if settings.http.enabled and settings.http.port:
        yield "http", settings.http.host, settings.http.port


def _listens(host: str, number: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1" if host in EVERYWHERE else host, number), CONNECT_S).close()
    except OSError:
        return False
    return True


async def daemon(subject: Subject) -> Findings:
    """What a running daemon says of itself."""
    seen = await subject.daemon()
    if seen.line is not Line.ANSWERS:
        return [skipped("no daemon answers: see port")]
    return judge_daemon(seen.reply)


def judge_daemon(reply: dict[str, Any]) -> Findings:
    """`reply`: of the op `info`."""
    found = []
    if reply["version"] != __version__:
        found.append(
            warn(
                f"it runs version {reply['version']}, and {__version__} is installed",
                f"restart it: {RESTART}",
            )
        )
    if reply["ledger"] != "ok":
        found.append(fail(f"its ledger: {reply['ledger']}", "see the checks of the ledger"))
    elif reply.get("accepts", "yes") != "yes":
        found.append(warn("it drains: new jobs are refused", "broadcastd drain --off"))
    if reply.get("progress", "ok") != "ok":
        found.append(fail(f"it hangs: {reply['progress']}", f"{RESTART}: nothing is lost by it"))
    for one in reply.get("stuck", ()):
        found.append(warn(f"job {one['job']} stands still: {one['why']}", f"broadcastd job {one['job']}"))
    if reply["jobs"]["held"]:
        found.append(
            warn(
                f"{reply['jobs']['held']} of its {reply['jobs']['open']} open jobs are held",
                "broadcastd jobs says why; broadcastd resume JOB lets one go on",
            )
        )
    for name, account in reply["accounts"].items():
        for part in ("wechat", "audience"):
            if account[part] != "ok":
                found.append(
                    warn(f"account {name}, {part}: {account[part]}", "see the checks of the account")
                )
    jobs = f"{reply['jobs']['open']} open jobs"
    return found or [ok(f"version {reply['version']}, up {reply['uptime_s']:.0f} s, {jobs}, nothing held")]
