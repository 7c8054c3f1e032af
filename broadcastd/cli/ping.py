"""`broadcastd ping` and `broadcastd info`: is it alive, and how is it."""

from pathlib import Path

import click

from broadcastd.cli.target import find_target, print_json, target_options


@click.command()
@target_options
def ping(config: Path | None, host: str | None, port: int | None, as_json: bool) -> None:
    """Ask the daemon whether it is alive."""
    target = find_target(config, host, port)
    reply = target.call({"op": "ping"})
    if as_json:
        print_json(reply)
    else:
        click.echo(
            f"broadcastd {reply['version']} on {target.host}:{target.port}, pid {reply['pid']},"
            f" up {reply['uptime_s']:g} s"
        )


@click.command()
@target_options
def info(config: Path | None, host: str | None, port: int | None, as_json: bool) -> None:
    """Ask the daemon how it is: tasks, jobs, ledger, accounts."""
    reply = find_target(config, host, port).call({"op": "info"})
    if as_json:
        print_json(reply)
        return
    tasks, jobs = reply["tasks"], reply["jobs"]
    click.echo(f"broadcastd {reply['version']}, pid {reply['pid']}, up {reply['uptime_s']:g} s")
    click.echo(f"tasks     {tasks['busy']} of {tasks['all']} busy, {reply['in_flight']} sends in flight")
    click.echo(f"jobs      {jobs['open']} open, {jobs['held']} of them held")
    click.echo(f"ledger    {reply['ledger']}")
    for name, account in reply["accounts"].items():
        click.echo(f"account   {name}: WeChat {account['wechat']}; audience {account['audience']}")
