"""How many frames are accepted, each with its job on disk before the reply."""

from functools import partial

from bench.audience import audience
from bench.daemon_side import Scene, running
from bench.processes import Values, cpu_s, told
from bench.rounds import Found, Side, in_turns
from bench.scenario import Chart, Grounds, Scenario

FRAMES = 5000
CONNECTIONS = 50
ROUNDS = 3
GROUP, KEPT, ANEW = "50 connections", "kept open", "one a frame"


def measure(grounds: Grounds) -> Found:
    """Connections that are kept, and one a frame, as PHP makes them; and with the ledger in MariaDB."""
    frames = min(grounds.wanted.recipients or FRAMES, FRAMES)
    ways = [("kept", KEPT, False), ("anew", ANEW, False), ("kept", f"{KEPT}, ledger in MariaDB", True)]
    both = [Side(GROUP, name, partial(accept, grounds, frames, how, mysql)) for how, name, mysql in ways]
    return in_turns(both, grounds.wanted.rounds_or(ROUNDS))


def accept(grounds: Grounds, frames: int, how: str, mysql_ledger: bool) -> Values:
    """A new daemon takes so many frames with keys of their own, as fast as it can."""
    there = audience(grounds.database, 1500)
    scene = Scene(grounds.endpoint.url(), there, 1500, mysql_ledger=mysql_ledger)
    with running(grounds, scene) as daemon:
        told("framing", daemon.port, CONNECTIONS, CONNECTIONS, how)
        began_s = cpu_s(daemon.pid)
        found = told("framing", daemon.port, frames, CONNECTIONS, how)
        return {**found, "frame_cpu_us": (cpu_s(daemon.pid) - began_s) / frames * 1e6}


SCENARIO = Scenario(
    title="Frames",
    words="Each of 50 connections sends its next frame once it has the reply to the one before; each"
    " frame has a key of its own, and its job begins tomorrow. `one a frame`: each frame has a"
    " connection of its own, as from a PHP page. A reply means that the job is on disk. The"
    " callers take their share of the machine, too.",
    measure=measure,
    shown=("frames_per_s", "p50_ms", "p99_ms", "most_ms", "frame_cpu_us"),
    chart=Chart("frames_per_s"),
)
