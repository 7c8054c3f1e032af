"""The seam between the channels and the network: who makes the HTTP calls of one account.

`tests/contract/test_transport_contract.py` runs one suite over all implementations (`transports/`).
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from yarl import URL

from broadcastd.outcomes import Answer

MAX_ANSWER_BYTES = 65536
"""An answer of send is some 60 bytes. More than this is not WeChat's, and is not read."""

Raw = bytes | Answer
"""The body of an HTTP 200; or how the call ended without one: `Answer` with `refused` or `unanswered`."""


class CallSource(Protocol):
    """One call after the other, for `Transport.make_calls`. Its methods are cheap and raise nothing."""

    def next_call(self) -> bytes | None:
        """The next request's body, taken right before it is written; None: no more calls now."""
        ...

    def still(self) -> bool:
        """Whether the call that was taken may still be made: asked when a connection had to be waited for."""
        ...

    def ended(self, raw: Raw | None) -> None:
        """The call that was taken has ended. None: it was not made, since `still` said no."""
        ...


class Transport(Protocol):
    """Makes HTTP calls over connections that it keeps. Never raises for what the network or the server do.

    What a call comes to is told apart by what can be known for certain: `refused` when nothing of it was
    written (no connection, a certificate that is not trusted) or the server says itself that it did not take
    it (HTTP 412, 429, 503); `unanswered` for anything else that is not an HTTP 200 with a whole body in time.
    A call is made once: never again behind the caller's back. Redirects are not followed.
    """

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, and how many may be."""
        ...

    @property
    def full_rate_per_s(self) -> int:
        """Calls a second that one core makes without any latency: no more in flight is of use than it times
        the latency."""
        ...

    @property
    def chunk(self) -> int:
        """How many recipients of a slice are let through by one mark at the least: as many as a task asks
        while a mark is written, and no more, since this is what a kill leaves in doubt."""
        ...

    async def exchange(
        self, method: str, url: URL, body: bytes | None, may_ask: Callable[[], bool], most_bytes: int
    ) -> Raw | None:
        """One call; None when `may_ask`, asked once a connection is there, says no. The body of the answer is
        at most `most_bytes`: more is `unanswered`."""
        ...

    def make_calls(self, url: URL, source: CallSource) -> Coroutine[Any, Any, None]:
        """POST what `source` gives, one call after the other, until it gives none."""
        ...

    async def close(self) -> None:
        """Close the connections. Nobody calls any more."""
        ...
