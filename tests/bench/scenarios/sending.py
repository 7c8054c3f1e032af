"""The daemon beside bare loops, at no latency: what a message costs."""

from functools import partial

from bench.audience import audience
from bench.bare_side import TUNED, best_in_flight, sides
from bench.daemon_side import Scene, run_daemon
from bench.rounds import Found, Side, in_turns
from bench.scenario import Chart, Grounds, Scenario, daemon_name, transports

RECIPIENTS = 30_000
ROUNDS = 5
HTTP, HTTPS = "HTTP", "HTTPS"
IN_MYSQL = ", ledger in MariaDB"


def measure(grounds: Grounds) -> Found:
    """HTTP and HTTPS, one after the other."""
    return {**_group(grounds, HTTP), **_group(grounds, HTTPS)}


def _group(grounds: Grounds, group: str) -> Found:
    recipients = grounds.wanted.recipients or RECIPIENTS
    api = grounds.endpoint.url(tls=group == HTTPS)
    found = sides(
        group, api, recipients, best_in_flight(api, 0, recipients), "tuned", "naive", "ceiling"
    ) + daemon_sides(grounds, group, api, recipients)
    if group == HTTP:
        found += daemon_sides(grounds, group, api, recipients, mysql_ledger=True)
    return in_turns(found, grounds.wanted.rounds_or(ROUNDS))


def daemon_sides(
    grounds: Grounds, group: str, api: str, recipients: int, *, mysql_ledger: bool = False
) -> list[Side]:
    """The daemon, once for each of its transports."""
    there = audience(grounds.database, recipients)
    name = IN_MYSQL if mysql_ledger else ""
    return [
        Side(
            group,
            daemon_name(one) + name,
            partial(run_daemon, grounds, Scene(api, there, recipients, one, mysql_ledger)),
        )
        for one in transports()
    ]


SCENARIO = Scenario(
    title="What a message costs",
    words="30,000 recipients, an endpoint that answers at once. The bare loops only make the calls."
    " broadcastd reads its audience from MariaDB and keeps its ledger on disk, in SQLite with"
    " `synchronous = FULL` where nothing else is said; its time is that from the job's acceptance"
    " to its last message.",
    measure=measure,
    shown=("per_s", "cpu_us", "first_ms", "peak_mb", "in_flight"),
    base=TUNED,
    compared="per_s",
    chart=Chart("per_s"),
)
