"""`broadcastd monitor`: the once-a-minute look at a daemon, for cron or a systemd timer."""

import shlex
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from broadcastd import settings_file
from broadcastd.cli.main import Exit
from broadcastd.cli.target import Target, complain, config_option, find_own, print_json
from broadcastd.clock import SystemClock
from broadcastd.errors import NoDaemonError
from broadcastd.log import escaped
from broadcastd.monitor.looks import Looks
from broadcastd.monitor.run import Monitor, Report
from broadcastd.monitor.standing import Traces
from broadcastd.monitor.state import OtherRunError, State, StateFile
from broadcastd.monitor.telling import MailPost, Telling
from broadcastd.monitor.verdict import Limits
from broadcastd.monitor_settings import state_dir
from broadcastd.settings import Settings

EMBEDDED = "sqlite:///"
DRAIN_MORE_S = 30.0
"""Beyond server.drain_s: until a daemon that was told to stop is gone."""


@click.command()
@click.option("--no-alert", is_flag=True, help="Tell nobody.")
@click.option("--no-restart", is_flag=True, help="Restart nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was seen as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Also what became of the alerts.")
@config_option
def monitor(config: Path | None, as_json: bool, verbose: bool, no_alert: bool, no_restart: bool) -> None:
    """Look whether the daemon answers and works; tell of trouble, restart it, look again.

    Made to be run once a minute (docs/monitoring.md). Prints a line a check. Ends with 0 when all is well at
    its end, with 1 in trouble, with 4 when the settings cannot be used.
    """
    path = config or settings_file.find()
    settings = settings_file.load(path)
    file = StateFile(state_dir(settings.monitor), str(path.resolve()) if path else "")
    try:
        with file.locked():
            state = file.read()
            post = None if no_alert else MailPost(settings.alerts)
            run = _monitor(settings, find_own(path), state, post, restarts=not no_restart)
            try:
                report = run.run()
            finally:
                file.write(state)
    except OtherRunError:
        click.echo("another run of the monitor is at it")
        return
    _show(report, settings, post, as_json=as_json, verbose=verbose)
    sys.exit(Exit.OK if report.ok else Exit.FAILED)


def _monitor(
    settings: Settings, target: Target, state: State, post: MailPost | None, *, restarts: bool
) -> Monitor:
    own = settings.monitor
    ledger = settings.ledger.url.get_secret_value()
    path = Path(ledger.removeprefix(EMBEDDED)) if ledger.startswith(EMBEDDED) else None
    traces = Traces(
        own.restart,
        Path(settings.background.pid_file),
        path.with_name(path.name + ".lock") if path is not None else None,
    )

    def ask(frame: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        for reply in target.stream(dict(frame), timeout_s):
            return reply
        raise NoDaemonError("it hung up without a reply")

    return Monitor(
        Looks(ask, own.timeout_s, traces, path, _certificates(settings)),
        Limits(
            own.min_free_mb,
            timedelta(days=own.expires_days),
            own.restart_when_stopped,
            shlex.join(own.restart),
            settings.server.drain_s + DRAIN_MORE_S,
        ),
        own.restart if restarts else (),
        own.second_look_s,
        state,
        Telling(settings.alerts, state, post) if post is not None else None,
        SystemClock(),
    )


def _certificates(settings: Settings) -> dict[str, Path]:
    """The daemon's own, by the key that names them."""
    named = {"server": settings.server.tls_cert, "http": settings.http.tls_cert}
    return {f"{name}.tls_cert": Path(there) for name, there in named.items() if there}


def _show(report: Report, settings: Settings, post: MailPost | None, *, as_json: bool, verbose: bool) -> None:
    told = list(post.words) if post is not None else []
    if as_json:
        checks = [{"check": one.check, "ok": one.ok, "words": one.words} for one in report.findings]
        print_json({"ok": report.ok, "checks": checks, "done": report.done, "alerts": told})
        return
    for one in report.findings:
        click.echo(escaped(f"{'ok' if one.ok else 'TROUBLE':<8}{one.check:<12}{one.words}"))
    for words in [*report.done, *(told if verbose else ())]:
        click.echo(escaped(words))
    if post is not None and not settings.alerts.urls and not report.ok:
        complain("nobody is told: alerts.urls is empty (docs/alerts.md)")
