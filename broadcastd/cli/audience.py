"""`broadcastd audience`: the table of followers."""

import asyncio
import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broadcastd.cli.main import Exit
from broadcastd.cli.target import complain, config_option, print_json
from broadcastd.errors import SettingsError
from broadcastd.sync_ports import OWN_TABLE

if TYPE_CHECKING:
    from broadcastd.delivery.audience_sync import SyncResult
    from broadcastd.settings import Settings
    from broadcastd.sync_app import SyncPlan
    from broadcastd.sync_ports import Standing


@click.group()
def audience() -> None:
    """The table of followers."""


def _table_name(_: click.Context, __: click.Parameter, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w{0,63}", name, re.ASCII):
        raise click.BadParameter("a table's name: letters, digits and _")
    return name


@audience.command()
@click.option("--account", help="Account, when the settings have several.")
@click.option("--table", default=OWN_TABLE, show_default=True, callback=_table_name, help="Table to fill.")
@click.option("--create", is_flag=True, help="Make the tables that are missing.")
@click.option("--anew", is_flag=True, help="Begin a new pass, also when one was broken off.")
@click.option("--force", is_flag=True, help="Mark who left as gone, also when they are suspiciously many.")
@click.option("--dry-run", is_flag=True, help="Say what it would do; change nothing, ask WeChat nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@config_option
def sync(
    config: Path | None, account: str | None, table: str, create: bool, dry_run: bool, as_json: bool,
    **how: bool,
) -> None:  # fmt: skip
    """Fill or refresh a table with all followers of the account, as WeChat lists them.

    New followers are inserted, known ones marked as seen; after the list's end, those who were not on it get
    gone_at. receive_status is never changed: who opted out stays so. It needs no daemon, and may run beside
    one. Broken off at any moment, it goes on when it is run again.

    Exit codes: 0 the table is up to date, 1 trouble with WeChat or the database, 5 not now (today's calls are
    used up, another sync is at work, or suspiciously many would be gone).
    """
    from broadcastd import log, settings_file, sync_app

    log.configure("error")  # to stderr; what happens is told here in its own words
    plan = _plan(settings_file.load(config or settings_file.find()), account, table)
    if dry_run:
        _tell_what_it_would_do(plan, create=create, as_json=as_json, **how)
        return
    if create:
        asyncio.run(sync_app.make(plan))
    from broadcastd.cli.sync_progress import Bar, Lines, Silent

    watcher = Silent() if as_json else Bar() if sys.stdout.isatty() else Lines()
    with watcher:
        result = asyncio.run(sync_app.sync(plan, watcher, **how))
    _tell(plan, result, as_json=as_json)


def _plan(settings: "Settings", account: str | None, table: str) -> "SyncPlan":
    from broadcastd.sync_app import SyncPlan

    accounts = settings.accounts
    name = account or (next(iter(accounts)) if len(accounts) == 1 else "default")
    if name not in accounts:
        raise SettingsError(
            f"there is no account {name} in the settings; --account takes: {', '.join(accounts)}"
        )
    return SyncPlan(name, accounts[name], table)


def _tell(plan: "SyncPlan", result: "SyncResult", *, as_json: bool) -> None:
    from broadcastd.cli.sync_progress import counts_of
    from broadcastd.delivery.audience_sync import End

    if as_json:
        print_json(_values(plan, result))
    elif result.end is End.COMPLETE and result.last is not None:
        click.echo(f"{plan.table}: complete, {counts_of(result.last)}, {result.last.gone:,} gone")
        _tell_the_query(plan)
    else:
        complain(f"{plan.table}: {result.words}")
        if result.last is not None:
            complain(f"so far: {counts_of(result.last)}; nobody was marked as gone")
        if result.end is End.SUSPICIOUS:
            complain("--force marks them all the same; without it, the list is read once more")
    if result.end is not End.COMPLETE:
        sys.exit(Exit.FAILED if result.end is End.TROUBLE else Exit.REFUSED)


def _values(plan: "SyncPlan", result: "SyncResult") -> dict[str, Any]:
    last = None if result.last is None else dataclasses.asdict(result.last)
    for name in ("begun_at", "touched_at"):
        if last is not None:
            last[name] = last[name].isoformat(timespec="milliseconds")
    return {
        "ok": result.end.value == "complete", "end": result.end.value, "message": result.words,
        "account": plan.account, "table": plan.table, "calls_today": result.calls_today, "pass": last,
        "query": query_of(plan.table),
    }  # fmt: skip


def query_of(table: str) -> str:
    """The audience.query that reads a table as --create makes it."""
    return f"SELECT id, openid FROM {table} WHERE gone_at IS NULL AND receive_status = 1"  # noqa: S608 - shown


def _tell_the_query(plan: "SyncPlan") -> None:
    query = plan.settings.audience.query
    if not re.search(rf"\b{re.escape(plan.table)}\b", query):
        click.echo(
            f"the settings read another table; to send to this one:\n"
            f'  [accounts.{plan.account}.audience]\n  query = "{query_of(plan.table)}"'
        )
    elif "gone_at" not in query:
        click.echo(
            f"accounts.{plan.account}.audience.query takes those who left as well: add AND gone_at IS NULL"
        )


def _tell_what_it_would_do(plan: "SyncPlan", *, create: bool, as_json: bool, anew: bool, force: bool) -> None:
    from broadcastd import sync_app

    standing = asyncio.run(sync_app.look(plan))
    limit = plan.settings.audience.sync_calls_a_day
    if as_json:
        print_json(
            {
                "ok": True, "account": plan.account, "table": plan.table, "missing": list(standing.missing),
                "calls_today": standing.calls_today, "calls_a_day": limit,
                "would": _what(standing, create=create, anew=anew, force=force),
            }
        )  # fmt: skip
        return
    click.echo(f"{plan.table}: {_what(standing, create=create, anew=anew, force=force)}")
    click.echo(f"calls today: {standing.calls_today:,} of {limit:,}")


def _what(standing: "Standing", *, create: bool, anew: bool, force: bool) -> str:
    from broadcastd.clock import SystemClock
    from broadcastd.delivery.audience_sync import goes_on
    from broadcastd.sync_ports import Stage

    if standing.missing and not create:
        return f"would be refused: there is no table {' and no table '.join(standing.missing)} (--create)"
    makes = f"make {' and '.join(standing.missing)}, " if standing.missing else ""
    last = standing.last
    if last is None or anew or not goes_on(last, SystemClock().now()):
        return f"would {makes}begin a new pass and read the whole list"
    if last.stage is Stage.LISTING:
        return (
            f"would go on with the pass that was broken off, after {last.seen:,} of {last.total:,} followers"
        )
    end = "whatever their number" if force else "or read the list once more if they are suspiciously many"
    return f"would mark who left as gone ({last.seen:,} followers are on the list), {end}"
