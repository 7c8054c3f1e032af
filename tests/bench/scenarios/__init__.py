"""The scenarios, a file each: what is compared with what."""

from collections.abc import Mapping

from bench.scenario import Scenario
from bench.scenarios import (
    attackers,
    depth,
    frames,
    growth,
    latency,
    planning,
    queues,
    quick,
    replies,
    sending,
)

SCENARIOS: Mapping[str, Scenario] = {
    "sending": sending.SCENARIO,
    "latency": latency.SCENARIO,
    "growth": growth.SCENARIO,
    "planning": planning.SCENARIO,
    "depth": depth.SCENARIO,
    "frames": frames.SCENARIO,
    "replies": replies.SCENARIO,
    "queues": queues.SCENARIO,
    "quick": quick.SCENARIO,
    "attackers": attackers.SCENARIO,
}
"""In the order of the page."""
