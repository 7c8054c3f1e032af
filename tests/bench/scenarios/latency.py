"""Endpoints that take their time: how much of it is in parallel."""

from collections.abc import Sequence

from bench.bare_side import TUNED, best_in_flight, sides
from bench.rounds import Found, in_turns
from bench.scenario import Chart, Grounds, Scenario
from bench.scenarios.sending import HTTP, HTTPS, daemon_sides

ROUNDS = 3
CASES = (
    (1500, 80, HTTP), (1500, 240, HTTP), (30_000, 80, HTTP), (31_000, 80, HTTP), (30_000, 240, HTTP),
    (1500, 240, HTTPS), (30_000, 80, HTTPS),
)  # fmt: skip
"""(recipients, latency in ms, HTTP or HTTPS)."""


def group_of(recipients: int, latency_ms: int, protocol: str) -> str:
    """What a case is called."""
    return f"{recipients:,} at {latency_ms} ms, {protocol}"


def measure(grounds: Grounds) -> Found:
    """Case by case."""
    wanted, found = grounds.wanted, Found()
    cases: Sequence[tuple[int, int, str]] = CASES
    if wanted.recipients or wanted.latency_ms:
        cases = tuple((wanted.recipients or 30_000, wanted.latency_ms or 80, one) for one in (HTTP, HTTPS))
    for recipients, latency_ms, protocol in cases:
        group = group_of(recipients, latency_ms, protocol)
        api = grounds.endpoint.url(latency_ms, tls=protocol == HTTPS)
        in_flight = best_in_flight(api, latency_ms, recipients)
        bare = sides(group, api, recipients, in_flight, "tuned")
        both = bare + daemon_sides(grounds, group, api, recipients)
        found |= in_turns(both, wanted.rounds_or(ROUNDS))
    return found


SCENARIO = Scenario(
    title="Endpoints that take their time",
    words="nginx answers after a fixed latency. The bare loop runs at the number in flight that is best"
    " for it, found by a short try before; broadcastd finds its own.",
    measure=measure,
    shown=("sent_s", "done_s", "per_s", "first_ms", "cpu_us", "in_flight"),
    base=TUNED,
    compared="sent_s",
    chart=Chart("sent_s"),
)
