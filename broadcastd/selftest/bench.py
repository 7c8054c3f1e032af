"""What the faults work on: the site, its payer, the daemon under test, the receiving side, the disk."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from broadcastd.errors import NoDaemonError
from broadcastd.selftest.daemon import DaemonUnderTest
from broadcastd.selftest.disk import Disk, open_disk
from broadcastd.selftest.errors import SelftestStoppedError
from broadcastd.selftest.options import Options
from broadcastd.selftest.payer import Order, Payer
from broadcastd.selftest.receiving import ReceivingSide
from broadcastd.selftest.site import Site

ACCEPTED_WITHIN_S = 60.0
UNDER_WAY_WITHIN_S = 5.0
"""An API's outage before may keep everything waiting: then the fault strikes while it waits."""

LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Bench:
    """All parts of one run."""

    options: Options
    chance: Random
    receiving: ReceivingSide
    site: Site
    daemon: DaemonUnderTest
    payer: Payer
    disk: Disk

    def insist(self, order: Order) -> None:
        """Repeat the order until it is accepted, as a payment handler does."""
        gives_up_at = time.monotonic() + ACCEPTED_WITHIN_S
        while True:
            try:
                reply = self.payer.offer(order)
                if reply["ok"]:
                    return
                why = f"{reply['error']}: {reply['message']}"
                if not reply["retry"]:
                    raise SelftestStoppedError(f"{order.key} is refused for good: {why}")
            except NoDaemonError as error:
                why = str(error)
                self.daemon.revive()
            if time.monotonic() > gives_up_at:
                raise SelftestStoppedError(f"{order.key} is not accepted: {why}")
            time.sleep(LOOK_S)

    def order_under_way(self) -> str:
        """A new order, accepted and sent to a random share of its recipients; how far, in words."""
        before = self.receiving.delivered()
        order = self.payer.new()
        self.insist(order)
        wanted = before + self.chance.randint(1, self.options.recipients)
        arrived = self.receiving.wait_delivered(wanted, UNDER_WAY_WITHIN_S) - before
        return f"{arrived:,} message{'' if arrived == 1 else 's'} after {order.key}"

    def pause(self, least_s: float, most_s: float) -> float:
        """Let a random time pass; how long, in seconds."""
        pause_s = self.chance.uniform(least_s, most_s)
        time.sleep(pause_s)
        return pause_s


def open_bench(stack: contextlib.ExitStack, options: Options, folder: Path) -> Bench:
    """Start everything; the stack ends it, in the reverse order."""
    disk = open_disk(options, folder / "ledger")
    stack.callback(disk.close)
    receiving = ReceivingSide(options, folder)
    stack.callback(receiving.close)
    site = Site(folder, options.recipients, receiving.token)
    daemon = DaemonUnderTest(options, folder, receiving)
    stack.callback(daemon.close)
    daemon.start()
    chance = Random(options.seed)  # noqa: S311  # repeatable on purpose
    payer = Payer(daemon.port, options.seed)
    return Bench(options, chance, receiving, site, daemon, payer, disk)
