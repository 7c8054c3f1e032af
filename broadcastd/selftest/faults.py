"""The faults, a function and a row of `FAULTS` each: does it, and says in plain words what it did."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from random import Random

from broadcastd.errors import NoDaemonError
from broadcastd.selftest.bench import Bench
from broadcastd.selftest.disk import Disk
from broadcastd.selftest.payer import Order

Fault = Callable[[Bench], str]

PLANNING_S = 0.08
"""So long after an order was sent it is being checked, written, planned, and its first slices dealt."""

RECOVERY_S = 0.2
"""From taking the ledger to sending again (measured: 0.1 to 0.25 s)."""

OUTAGE_S = (0.5, 2.0)
KILLED_SHARE = 0.5
"""Of the outages: a kill -9 in the middle of them."""

NOTICED_WITHIN_S = 3.0
LOOK_S = 0.05


def kill_while_sending(bench: Bench) -> str:
    """The plain one."""
    moment = bench.order_under_way()
    bench.daemon.kill()
    bench.daemon.start()
    return f"kill -9 while sending, {moment}"


def kill_while_planning(bench: Bench) -> str:
    """Nobody knows whether the order was accepted: it is sent again, with the same key."""
    order = bench.payer.new()
    with bench.payer.offering(order):
        pause_s = bench.pause(0, PLANNING_S)
        bench.daemon.kill()
    bench.daemon.start()
    bench.insist(order)
    return f"kill -9 while planning, {pause_s * 1000:.0f} ms after {order.key} was sent, without an answer"


def kill_while_recovering(bench: Bench) -> str:
    """Two kills: the second one strikes the start after the first."""
    moment = bench.order_under_way()
    bench.daemon.kill()
    bench.daemon.launch()
    bench.daemon.wait_recovering()
    pause_s = bench.pause(0, RECOVERY_S)
    bench.daemon.kill()
    bench.daemon.start()
    return f"kill -9, {moment}, and again {pause_s * 1000:.0f} ms into the recovery"


def stop_and_start(bench: Bench) -> str:
    """An upgrade or a reboot: SIGTERM, and a new start."""
    moment = bench.order_under_way()
    death = bench.daemon.stop()
    bench.daemon.start()
    return f"SIGTERM, {moment}, exit code {death.exit_code}"


def database_away(bench: Bench) -> str:
    """An order comes while the site's database is away: it is accepted all the same."""
    bench.order_under_way()
    order = bench.payer.new()
    with bench.site.away():
        bench.insist(order)
        pause_s = bench.pause(*OUTAGE_S)
        killed = _maybe_kill(bench)
        if killed:
            bench.daemon.start()
    return f"the database is away for {pause_s:.1f} s, with {order.key} meanwhile{killed}"


def api_hangs(bench: Bench) -> str:
    """Calls are read and never answered; or delivered first, and never answered."""
    moment = bench.order_under_way()
    kind = bench.chance.choice(("hang", "hang_after_send"))
    with bench.receiving.outage(kind):
        pause_s = bench.pause(*OUTAGE_S)
        killed = _maybe_kill(bench)
        if killed:
            bench.daemon.start()
    how = "does not deliver either" if kind == "hang" else "delivers all the same"
    return f"the API hangs for {pause_s:.1f} s and {how}, {moment}{killed}"


def disk_full(bench: Bench) -> str:
    """An order meanwhile is refused, or it is on disk; either way it is sent again with the same key."""
    moment = bench.order_under_way()
    order = bench.payer.new()
    with bench.disk.full(bench.daemon.life.process.pid):
        noticed = _ledger_in_trouble(bench)
        answer = _answer(bench, order)
        pause_s = bench.pause(*OUTAGE_S)
        killed = _maybe_kill(bench)
    if killed:
        bench.daemon.start()
    bench.insist(order)
    info = "info says so" if noticed else "info says ok"
    return f"the disk is full for {pause_s:.1f} s, {moment}: {info}, {order.key} meanwhile: {answer}{killed}"


FAULTS: Mapping[str, Fault] = {
    "sending": kill_while_sending,
    "planning": kill_while_planning,
    "recovery": kill_while_recovering,
    "stop": stop_and_start,
    "database": database_away,
    "hang": api_hangs,
    "disk": disk_full,
}

# The first seven hold every fault once; over a whole cycle most are kills.
CYCLE = (*FAULTS, "sending", "planning", "recovery", "sending", "sending")


def deal(rounds: int, disk: Disk, chance: Random) -> Sequence[Fault]:
    """The faults of a run, in their order."""
    names = list(islice(cycle(CYCLE), rounds))
    chance.shuffle(names)
    return [FAULTS["sending" if name == "disk" and not disk.can_fill else name] for name in names]


def _maybe_kill(bench: Bench) -> str:
    if bench.chance.random() >= KILLED_SHARE:
        return ""
    bench.daemon.kill()
    return ", and a kill -9 in it"


def _ledger_in_trouble(bench: Bench) -> bool:
    """Whether the daemon says so, soon."""
    gives_up_at = time.monotonic() + NOTICED_WITHIN_S
    while time.monotonic() < gives_up_at:
        with contextlib.suppress(NoDaemonError):
            if bench.payer.ask({"op": "info"}).get("ledger") != "ok":
                return True
        time.sleep(LOOK_S)
    return False


def _answer(bench: Bench, order: Order) -> str:
    try:
        reply = bench.payer.offer(order)
    except NoDaemonError:
        return "no answer"
    return "accepted" if reply["ok"] else str(reply["error"])
