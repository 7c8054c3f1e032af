"""A source of a single call, where a transport knows runs of calls only."""

from collections.abc import Callable

from broadcastd.transport_ports import Raw


class OneCall:
    """Implements `CallSource`. `still` is what it was given; `raw` how the call has ended."""

    def __init__(self, body: bytes, still: Callable[[], bool]) -> None:
        self.raw: Raw | None = None
        self.still = still
        self._bodies = [body]

    def next_call(self) -> bytes | None:
        """See `CallSource`."""
        return self._bodies.pop() if self._bodies else None

    def ended(self, raw: Raw | None) -> None:
        """See `CallSource`."""
        self.raw = raw
