"""`broadcastd ping` and `broadcastd info`: is it alive, and how is it."""

import sys

import click

from broadcastd.cli.main import Exit
from broadcastd.cli.show import local
from broadcastd.cli.target import Target, print_json, say, target_options


@click.command()
@click.option("--canary", is_flag=True, help="Also whether a job would go through; sends nothing.")
@target_options
def ping(target: Target, as_json: bool, canary: bool) -> None:
    """Ask the daemon whether it is alive.

    With --canary also whether a job would go through: a commit, the audience query, an access token. Nothing
    is sent. Ends with 1 when something is wrong.
    """
    reply = target.call({"op": "canary" if canary else "ping"})
    if as_json:
        print_json(reply)
    elif canary:
        say(f"intake    {reply['intake']}")
        for name, parts in reply["accounts"].items():
            say(f"account   {name}: plan {parts['plan']}; token {parts['token']}")
    else:
        say(
            f"broadcastd {reply['version']} on {target.host}:{target.port}, pid {reply['pid']},"
            f" up {reply['uptime_s']:g} s"
        )
    if not reply.get("healthy", True):
        sys.exit(Exit.FAILED)


@click.command()
@target_options
def info(target: Target, as_json: bool) -> None:
    """Ask the daemon how it is: tasks, jobs, ledger, accounts."""
    reply = target.call({"op": "info"})
    if as_json:
        print_json(reply)
        return
    tasks, jobs = reply["tasks"], reply["jobs"]
    say(f"broadcastd {reply['version']}, pid {reply['pid']}, up {reply['uptime_s']:g} s")
    say(f"tasks     {tasks['busy']} of {tasks['all']} busy, {reply['in_flight']} sends in flight")
    others = "".join(f", {n} {name}" for name, n in jobs.items() if name not in ("open", "held") and n)
    say(f"jobs      {jobs['open']} open, {jobs['held']} of them held{others}")
    if (accepts := reply.get("accepts", "yes")) != "yes":
        say(f"accepts   nothing new: {'it drains' if accepts == 'draining' else 'see ledger'}")
    say(f"ledger    {reply['ledger']}")
    if (progress := reply.get("progress", "ok")) != "ok":
        say(f"hangs     {progress}")
    for one in reply.get("stuck", ()):
        say(f"stuck     {one['job']} of {one['account']}, since {local(one['since'])}: {one['why']}")
    for name, account in reply["accounts"].items():
        wechat = (
            account["wechat"] if account["wechat"].startswith("WeChat ") else f"WeChat {account['wechat']}"
        )
        say(f"account   {name}: {wechat}; audience {account['audience']}")
        for channel, lane in account.get("channels", {}).items():
            rate = "" if lane["rate_per_s"] is None else f", {lane['rate_per_s']:g} a second at most"
            say(
                f"channel   {name}/{channel}: {lane['in_flight']} in flight of {lane['limit']} just now,"
                f" {lane['max_in_flight']} at most{rate}; {lane['state']}"
            )
