"""`python -m bench.framing PORT FRAMES CONNECTIONS HOW [PER_S]`: frames, and how long their replies take.

`HOW` is `kept`: each connection sends its next frame once it has the reply to the one before; `anew`: each
frame has a connection of its own, as from PHP. `PER_S`: so many a second over all connections, evenly;
without it as many as are answered.

The frames have keys of their own and begin tomorrow: they are committed, and nobody is asked for them.
"""

import asyncio
import json
import os
import sys
import time
from statistics import quantiles

import uvloop

DAY_S = 86400


class Caller:
    """Sends frames, and notes the latencies of their replies."""

    def __init__(self, port: int, frames: int, per_s: float, connections: int) -> None:
        self._port = port
        self._numbers = iter(range(frames))
        self._name = f"bench-{os.getpid()}-{time.time_ns()}"
        self._tomorrow = time.time() + DAY_S
        self._pause_s = connections / per_s if per_s else 0.0
        self.latencies_s: list[float] = []

    async def kept(self, first_s: float) -> None:
        """One connection for many frames, the first after `first_s`."""
        await asyncio.sleep(first_s)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for number in self._numbers:
            due = time.monotonic() + self._pause_s
            await self._one(reader, writer, number)
            if self._pause_s:
                await asyncio.sleep(due - time.monotonic())
        writer.close()

    async def anew(self, first_s: float) -> None:
        """A connection a frame; opening it counts."""
        await asyncio.sleep(first_s)
        for number in self._numbers:
            began = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            await self._one(reader, writer, number, began)
            writer.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, began: float = 0.0
    ) -> None:
        frame = {"content": "hello", "key": f"{self._name}-{number}", "not_before": self._tomorrow}
        began = began or time.monotonic()
        writer.write(json.dumps(frame).encode() + b"\n")
        reply = json.loads(await reader.readline())
        assert reply["ok"], reply
        self.latencies_s.append(time.monotonic() - began)


async def run(port: int, frames: int, connections: int, how: str, per_s: float) -> dict[str, float]:
    caller = Caller(port, frames, per_s, connections)
    spread_s = connections / per_s if per_s else 0.0
    began = time.monotonic()
    way = caller.kept if how == "kept" else caller.anew
    await asyncio.gather(*(way(spread_s * one / connections) for one in range(connections)))
    wall_s = time.monotonic() - began
    hundredths = quantiles(caller.latencies_s, n=100, method="inclusive")
    return {
        "frames_per_s": frames / wall_s,
        "p50_ms": hundredths[49] * 1000,
        "p99_ms": hundredths[98] * 1000,
        "most_ms": max(caller.latencies_s) * 1000,
    }


def main() -> None:
    port, frames, connections = (int(one) for one in sys.argv[1:4])
    per_s = float(sys.argv[5]) if len(sys.argv) > 5 else 0.0
    print(json.dumps(uvloop.run(run(port, frames, connections, sys.argv[4], per_s))))


if __name__ == "__main__":
    main()
