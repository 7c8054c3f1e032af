"""How long the reply to a frame takes while a job is sent as fast as it goes."""

from dataclasses import replace
from functools import partial

from bench.audience import audience
from bench.daemon_side import WARM_UP, Scene, running, wait_ended
from bench.processes import Values, told
from bench.rounds import Found, Side, in_turns
from bench.scenario import Chart, Grounds, Scenario, daemon_name, transports

RECIPIENTS = 500_000
"""More than are sent while the frames last, whatever `--recipients` says."""
FRAMES = 1000
FRAMES_PER_S = 100
CONNECTIONS = 10
ROUNDS = 3
GROUP, AT_REST = "100 frames/s", "at rest"


def measure(grounds: Grounds) -> Found:
    """At rest, and while each of the transports is busy."""
    scene = Scene(grounds.endpoint.url(), audience(grounds.database, RECIPIENTS), RECIPIENTS)
    both = [Side(GROUP, AT_REST, partial(ask, grounds, scene, busy=False))]
    for one in transports():
        busy = partial(ask, grounds, replace(scene, transport=one), busy=True)
        both.append(Side(GROUP, f"{daemon_name(one)} sends", busy))
    return in_turns(both, grounds.wanted.rounds_or(ROUNDS))


def ask(grounds: Grounds, scene: Scene, *, busy: bool) -> Values:
    """Frames at an even pace, whose jobs begin tomorrow; `busy`: a large job is sent all the while."""
    with running(grounds, scene) as daemon:
        wait_ended(daemon, daemon.call({"content": WARM_UP, "flag": 0})["job"])
        job = daemon.call({"content": "measured", "key": "measured"})["job"] if busy else ""
        found = told("framing", daemon.port, FRAMES, CONNECTIONS, "kept", FRAMES_PER_S)
        assert not busy or daemon.job(job)["state"] == "running", "the job has ended before the frames"
        return found


SCENARIO = Scenario(
    title="Replies while a job is sent",
    words="10 connections send 100 frames a second in all, evenly, for 10 s; each waits for its reply,"
    " which means that the job is on disk. `at rest`: nothing is sent meanwhile. Else a large job"
    " is, over HTTP, at no latency.",
    measure=measure,
    shown=("p50_ms", "p99_ms", "most_ms"),
    base=AT_REST,
    compared="p99_ms",
    chart=Chart("p99_ms"),
)
