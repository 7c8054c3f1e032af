"""`Client` and its asyncio twin."""

import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from time import monotonic, sleep
from typing import Any, Generic, Optional, TypeVar, Union

from broadcastd_client import spool, wire
from broadcastd_client.alarm import Alarm, sound
from broadcastd_client.spool import StrPath
from broadcastd_client.wire import BroadcastError, Frame, NoAnswer, Refused, Text, Unreachable

R = TypeVar("R")
FIRST_PAUSE_S = 0.05  # doubled each time: five pauses fit into the default budget
log = logging.getLogger("broadcastd_client")


@dataclass(frozen=True)
class Calls(ABC, Generic[R]):
    """Settings and calls. No connection is kept: threads may share an instance, and it survives a fork."""

    host: str = "127.0.0.1"
    port: int = 9090
    token: Text = field(default=None, repr=False)
    timeout_s: float = 2.0
    spool: Optional[StrPath] = None
    alarm: Union[Alarm, Sequence[Alarm]] = ()

    def __post_init__(self) -> None:
        if not (isinstance(self.port, int) and 1 <= self.port <= 65535 and 0 < self.timeout_s <= 86400):
            raise ValueError(
                f"port {self.port!r}: 1 to 65535; timeout_s {self.timeout_s!r}: above 0, a day at most"
            )

    def broadcast(self, content: str, phone: Text = None, key: Text = None, **more: Any) -> R:
        """Have `content` sent to every follower. Returns the daemon's reply: the job is on its disk.

        `key` is the paid order: under one key there is never a second job. `more`: ref, flag, account, to,
        dry_run, channels, template, data. With `to` (a test send) or `dry_run` there
        is no key, spool or alarm, and a test send that was written is not repeated. After success, the rest
        of `timeout_s` goes to the spool. Raises BroadcastError; TypeError and ValueError before any I/O.
        """
        frame = wire.broadcast_frame({"content": content, "phone": phone, "key": key, **more})
        return self._run(self._broadcast, frame, wire.encode(frame))

    def call(self, op: str, **fields: Any) -> R:
        """Any op of the protocol; returns the first line of its answer. Raises as `broadcast` does."""
        wire.encode(fields)
        return self._run(self._confirmed, {"op": op, **fields})

    def ping(self) -> R:
        """Whether a broadcastd is there, and its version. Raises BroadcastError."""
        return self.call("ping")

    def job(self, job_id: str) -> R:
        """State and books of a job. Raises BroadcastError."""
        return self.call("job", job=job_id)

    def flush(self, old: bool = False) -> R:
        """Send the spool, oldest first, `timeout_s` each; with `old`, what is over 24 h old, too.
        Returns counts: `sent`, `refused` (set aside), `left`, `old` (still waiting). Raises OSError."""
        return self._run(self._flush, old)

    @abstractmethod
    def _run(self, work: Callable[..., Frame], *arguments: Any) -> R:
        """Do `work`, here or elsewhere."""

    def _broadcast(self, frame: Frame, line: bytes) -> Frame:
        deadline_s = monotonic() + self.timeout_s
        try:
            reply = self._confirmed(frame, deadline_s)
        except BaseException as error:  # a process that is interrupted has a paid post in its hands, too
            if "key" in frame:
                self._keep(frame, line, error)
            raise
        try:
            if self.spool:
                self._flush(False, deadline_s)
        except BlockingIOError:
            pass  # another process is at it
        except Exception as trouble:  # the caller's own job is safe, and that is what it asked
            log.warning("the spool cannot be sent: %r", trouble)
        return reply

    def _keep(self, frame: Frame, line: bytes, cause: BaseException) -> None:
        error = cause if isinstance(cause, BroadcastError) else NoAnswer(f"interrupted: {cause!r}")
        error.key = frame["key"]
        try:
            if self.spool and not error.final:
                spool.put(spool.opened(self.spool), line)
                error.spooled = True
        except Exception as trouble:  # what is wrong with the spool must not hide what is wrong with the job
            log.error("key %s cannot be spooled: %r", error.key, trouble)  # noqa: TRY400
        sound(self.alarm, error)

    def _flush(self, old: bool, deadline_s: Optional[float] = None) -> Frame:
        """With `deadline_s` it is part of somebody's call, and does not wait for another process."""
        folder, counts = spool.opened(self.spool or ""), {"sent": 0, "refused": 0}
        with spool.locked(folder / ".lock", wait=deadline_s is None):
            due, waiting = spool.waiting(folder, old)
            for file in due:
                try:
                    self._confirmed(spool.load(file), deadline_s)
                    file.unlink()
                    counts["sent"] += 1
                except BroadcastError as error:
                    if error.final:
                        spool.set_aside(file, error)
                        counts["refused"] += 1
                        sound(self.alarm, error)
                    elif not isinstance(error, Refused):
                        break  # the next frame would fare no better
        return {**counts, "left": len(due) - sum(counts.values()), "old": waiting}

    def _confirmed(self, frame: Frame, deadline_s: Optional[float] = None) -> Frame:
        """Attempts, with growing pauses, until the daemon confirms or refuses, or the time is up."""
        end_s, pause_s, maybe_accepted = deadline_s or monotonic() + self.timeout_s, FIRST_PAUSE_S, False
        # What does nothing more when it comes again; all else is repeated only while nothing was written.
        harmless = "key" in frame or frame.get("dry_run") or frame.get("op") in wire.READING_OPS
        while True:
            try:
                return self._attempt(frame, end_s)
            except BroadcastError as error:
                error.key = frame.get("key")
                maybe_accepted = error.maybe_accepted = error.maybe_accepted or maybe_accepted
                again = isinstance(error, Unreachable) or (error.retry and harmless)
                if not again or monotonic() + pause_s >= end_s:
                    raise
                last = error
            sleep(pause_s)
            pause_s *= 2
            if monotonic() >= end_s:
                raise last  # a slow machine overslept: what went wrong, not that the time is up

    def _attempt(self, frame: Frame, deadline_s: float) -> Frame:
        answer, failure, verb = b"", Unreachable, "cannot be reached"  # type: bytes, type[BroadcastError], str
        try:
            with self._connected(deadline_s) as sock:
                failure, verb = NoAnswer, "did not answer"
                sock.settimeout(deadline_s - monotonic())  # ValueError: there is no time left
                with suppress(ConnectionError):  # an oversized frame is refused before all of it is read
                    sock.sendall(wire.encode(frame, self.token))
                while not wire.complete(answer):
                    sock.settimeout(deadline_s - monotonic())
                    if not (chunk := sock.recv(65536)):
                        raise ConnectionError("it closed the connection")
                    answer += chunk
        except (OSError, ValueError, RuntimeError) as error:
            raise failure(f"{self.host}:{self.port} {verb}: {error}") from error
        return wire.parse_reply(answer, frame)

    def _connected(self, deadline_s: float) -> socket.socket:
        found: list[Any] = []

        def look_up() -> None:
            with suppress(OSError, UnicodeError):
                found.extend(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))

        asking = Thread(target=look_up, daemon=True)  # because a lookup knows no time limit
        asking.start()
        asking.join(deadline_s - monotonic())
        failure = OSError("no address is known for this name")
        for untried, (*_, address) in zip(range(len(found), 0, -1), list(found)):
            try:  # each address has its share of the time, as the first may be dead
                return socket.create_connection(address[:2], (deadline_s - monotonic()) / untried)
            except OSError as error:
                failure = error
        raise failure


class Client(Calls[Frame]):
    """Calls that block, `timeout_s` at most."""

    def _run(self, work: Callable[..., Frame], *arguments: Any) -> Frame:
        return work(*arguments)


class AsyncClient(Calls[Coroutine[Any, Any, Frame]]):
    """The same calls to await, each in a thread of its own: nothing blocks the loop, be it a name lookup or
    an fsync. A call that is cancelled goes on there to its end, so its post arrives or is spooled."""

    async def _run(self, work: Callable[..., Frame], *arguments: Any) -> Frame:
        import asyncio  # noqa: PLC0415 - 50 ms that `Client` need not pay
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), work, *arguments)
        )
