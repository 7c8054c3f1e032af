"""`Client` and its asyncio twin."""

import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from threading import Thread
from time import monotonic, sleep
from typing import Any, Generic, Optional, TypeVar, Union

from broadcastd_client import spool, tls, wire
from broadcastd_client.alarm import Alarm, sound
from broadcastd_client.spool import StrPath
from broadcastd_client.wire import BroadcastError, Frame, NoAnswer, Refused, Text, Unreachable

R = TypeVar("R")  # what a call returns
S = TypeVar("S")  # what a stream of recipients is
Words = Union[str, Sequence[str]]
Batches = Generator[list[Frame], None, None]
FIRST_PAUSE_S = 0.05  # doubled each time: five pauses fit into the default budget
log = logging.getLogger("broadcastd_client")


@dataclass(frozen=True)
class Calls(ABC, Generic[R, S]):
    """Settings and calls. No connection is kept: threads may share an instance, and it survives a fork."""

    host: str = "127.0.0.1"
    port: int = 9090
    token: Text = field(default=None, repr=False)
    timeout_s: float = 2.0
    spool: Optional[StrPath] = None
    alarm: Union[Alarm, Sequence[Alarm]] = ()
    tls: bool = False
    tls_ca: Optional[StrPath] = None
    tls_cert: Optional[StrPath] = None
    tls_key: Optional[StrPath] = None

    def __post_init__(self) -> None:
        if self.tls_key and not self.tls_cert:
            raise ValueError("tls_key needs tls_cert, the certificate that it belongs to")
        if not (isinstance(self.port, int) and 1 <= self.port <= 65535 and 0 < self.timeout_s <= 86400):
            raise ValueError(f"port {self.port!r}: 1 to 65535; timeout_s {self.timeout_s!r}: 0 to a day")

    def broadcast(self, content: str, phone: Text = None, key: Text = None, **more: Any) -> R:
        """Have `content` sent to every follower. Returns the daemon's reply: the job is on its disk.

        `key` is the paid order: under one key there is never a second job. `more`: ref, flag, account, to,
        dry_run, channels, template, data, not_before, not_after, on_unknown. With `to` (a test send) or
        `dry_run` there is no key, spool or alarm, and a test send that was written is not repeated. What is
        left of `timeout_s` goes to the spool. Raises BroadcastError; TypeError, ValueError before any I/O.
        """
        frame = wire.broadcast_frame({"content": content, "phone": phone, "key": key, **more})
        return self._run(self._broadcast, frame, wire.encode(frame))

    def call(self, op: str, **fields: Any) -> R:
        """Any op of the protocol; returns the first line of its answer. Raises as `broadcast` does."""
        return self._run(self._confirmed, wire.op_frame(op, **fields))

    def ping(self) -> R:
        """Whether a broadcastd is there, and its version. Raises BroadcastError."""
        return self.call("ping")

    def job(self, job_id: str) -> R:
        """State and books of a job. Raises BroadcastError."""
        return self.call("job", job=job_id)

    def pause(self, job_id: str) -> R:
        """Have nobody more asked until `resume`. Returns the whole job, as the next three do."""
        return self.call("pause", job=job_id)

    def resume(self, job_id: str) -> R:
        """Let a paused or held job go on."""
        return self.call("resume", job=job_id)

    def cancel(self, job_id: str) -> R:
        """End a job: who has not been asked is `skipped`. It is `cancelling` while calls are under way."""
        return self.call("cancel", job=job_id)

    def retry(self, job_id: str, only: Words, not_after: Optional[wire.Moment] = None) -> R:
        """Start one round more of an ended job, for outcomes failed, unknown, rejected or skipped."""
        return self._run(self._retry, wire.op_frame("retry", job=job_id, only=only, not_after=not_after))

    def rate(self, channel: Text = None, account: Text = None, **change: Any) -> R:
        """The channels' rates, in `accounts`. `change`: per_second (or "off"), in_flight (or "auto")."""
        return self.call("rate", channel=channel, account=account, **change)

    def drain(self, off: bool = False) -> R:
        """Have nothing new accepted, and what is there finished; `off`: accepted again."""
        return self.call("drain", off=off or None)

    def report(self, job_id: str) -> R:
        """The proof for a payer: the field `report`. Raises BroadcastError."""
        return self.call("report", job=job_id)

    def verify(self, report: Frame) -> R:
        """Whether a `report` is the daemon's own and unchanged: the field `genuine`."""
        return self.call("verify", report=report)

    def who(self, job_id: str, outcome: Optional[Words] = None, openid: Text = None) -> S:
        """The recipients, a dict each, as they come: for `for`, of an AsyncClient for `async for`. Only these
        outcomes; `none`: none yet. `timeout_s` is for each wait. The loop raises if the list is not whole."""
        outcomes = [outcome] if isinstance(outcome, str) else outcome
        return self._each(self._listed(wire.op_frame("who", job=job_id, outcome=outcomes, openid=openid)))

    def flush(self, old: bool = False) -> R:
        """Send the spool, oldest first, `timeout_s` each; with `old`, what is over 24 h old, too.
        Returns counts: `sent`, `refused` (set aside), `left`, `old` (still waiting). Raises OSError."""
        return self._run(self._flush, old)

    @abstractmethod
    def _run(self, work: Callable[..., Frame], *arguments: Any) -> R:
        """Do `work`, here or elsewhere."""

    @abstractmethod
    def _each(self, batches: Batches) -> S:
        """What comes in batches, one by one."""

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

    def _retry(self, frame: Frame) -> Frame:
        deadline_s = monotonic() + self.timeout_s
        job = self._confirmed({"op": "job", "job": frame["job"]}, deadline_s)
        next_round = job.get("round", {"no": 0})["no"] + 1  # named, so a repeat cannot start another
        return self._confirmed({**frame, "round": next_round}, deadline_s)

    def _listed(self, frame: Frame) -> Batches:
        batch, rest = self._begun(frame)
        while "listed" not in batch[-1]:  # which only the last line has
            yield batch
            batch = next(rest)
        yield batch[:-1]

    def _confirmed(self, frame: Frame, deadline_s: Optional[float] = None) -> Frame:
        return self._begun(frame, deadline_s)[0][0]

    def _begun(self, frame: Frame, deadline_s: Optional[float] = None) -> tuple[list[Frame], Batches]:
        """Attempts, with growing pauses, until an answer begins or the time is up: first lines, the rest."""
        end_s, pause_s, maybe_accepted = deadline_s or monotonic() + self.timeout_s, FIRST_PAUSE_S, False
        # What does nothing more when it comes again; all else is repeated only while nothing was written.
        harmless = {"key", "round"} & frame.keys() or frame.get("dry_run") or frame.get("op") in wire.HARMLESS
        while True:
            try:
                replies = self._replies(frame, end_s)
                return next(replies), replies
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

    def _replies(self, frame: Frame, end_s: float) -> Batches:
        answer, failure, verb = b"", Unreachable, "cannot be reached"  # type: bytes, type[BroadcastError], str
        try:
            with self._secured(self._connected(end_s), end_s) as sock:
                failure, verb = NoAnswer, "did not answer"
                sock.settimeout(end_s - monotonic())  # ValueError: there is no time left
                with suppress(
                    ConnectionError, tls.Ended
                ):  # an oversized frame is refused before all of it is read
                    sock.sendall(wire.encode(frame, self.token))
                while True:
                    while not wire.complete(answer):
                        sock.settimeout(end_s - monotonic())
                        if not (chunk := sock.recv(65536)):
                            raise ConnectionError("it closed the connection")
                        answer += chunk
                    lines, _, answer = answer.rpartition(b"\n") if b"\n" in answer else (answer, b"", b"")
                    yield [wire.parse_reply(line, frame) for line in lines.split(b"\n")]
                    end_s = monotonic() + self.timeout_s
        except (OSError, ValueError, RuntimeError) as error:
            if tls.was_refused(error) and not answer:
                failure, verb = Unreachable, "cannot be reached"
            raise failure(f"{self.host}:{self.port} {verb}: {tls.words(error)}") from error

    def _secured(self, sock: socket.socket, end_s: float) -> socket.socket:
        if not (self.tls or self.tls_ca or self.tls_cert):
            return sock
        try:
            context = tls.context(self.host, self.tls_ca, self.tls_cert, self.tls_key)
            sock.settimeout(end_s - monotonic())
            return context.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise

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


class Client(Calls[Frame, Iterator[Frame]]):
    """Calls that block, `timeout_s` at most."""

    def _run(self, work: Callable[..., Frame], *arguments: Any) -> Frame:
        return work(*arguments)

    def _each(self, batches: Batches) -> Iterator[Frame]:
        yield from chain.from_iterable(batches)


class AsyncClient(Calls[Coroutine[Any, Any, Frame], AsyncIterator[Frame]]):
    """The same calls to await, each in a thread of its own: nothing blocks the loop, be it a name lookup or
    an fsync. A call that is cancelled goes on there to its end, so its post arrives or is spooled."""

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        import asyncio  # noqa: PLC0415 - 50 ms that `Client` need not pay
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1)
        return await asyncio.shield(loop.run_in_executor(thread, work, *arguments))

    async def _each(self, batches: Batches) -> AsyncIterator[Frame]:
        while batch := await self._run(next, batches, None):
            for one in batch:
                yield one
