"""One connection: reads frames, replies in order, and is closed when it is idle, slow or broken."""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import orjson
import structlog

from broadcastd.delivery.intake import CONTENT_SHOWN, incident
from broadcastd.errors import LedgerUnavailableError
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.settings import ServerSettings
from broadcastd.wire.frames import parse
from broadcastd.wire.framing import FrameSplitter, FramingError
from broadcastd.wire.ops import OPS, broadcast
from broadcastd.wire.use_cases import Lines, Replies, ToTheEnd, UseCases
from broadcastd.wire.views import Reply, refusal_view

log = structlog.get_logger()

READ_BYTES = 65536


class Places:
    """How many frames are being answered at the same time, over all connections."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0

    @property
    def full(self) -> bool:
        """Whether one more is too many."""
        return self._taken >= self.most

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold one."""
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Connection:
    """Serves one client until it leaves or must."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        use: UseCases,
        settings: ServerSettings,
        in_flight: Places,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._use = use
        self._settings = settings
        self._in_flight = in_flight
        self._splitter = FrameSplitter(settings.max_frame_bytes)
        self._ended = False
        self.replying = False
        self.stays = False
        """It is told how far the end of the daemon is."""
        self._answered_any = False
        peer = writer.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if peer else "unknown"

    @property
    def awaits(self) -> bool:
        """Whether a client is likely to be waiting for an answer: it came for one, or has begun a frame."""
        return self.replying or not self._answered_any or bool(self._splitter)

    def change(self, settings: ServerSettings) -> None:
        """Other limits and tokens, from the next frame on."""
        self._settings = settings
        self._splitter.change(settings.max_frame_bytes)

    async def serve(self) -> None:
        """Answer frames until the client leaves."""
        try:
            while (line := await self._next_line()) is not None:
                self.replying = True
                try:
                    await self._answer(line)
                finally:
                    self.replying = False
                    self._answered_any = True
                if self._use.life.stopping.is_set():
                    return
        except FramingError as error:
            refusal = Refusal(error.code, error.message)
            self._log_refused(refusal, {}, self._splitter.take_rest())
            await self._send(refusal_view(refusal))
        except (ConnectionError, TimeoutError):
            # The old client leaves without reading its reply; who does not read theirs is cut off.
            pass

    async def _next_line(self) -> bytes | None:
        """The next frame; None when the client has left or was idle. Raises FramingError."""
        loop = asyncio.get_running_loop()
        slow_at = None
        while True:
            line = self._splitter.next_frame()
            if line is not None:
                return line
            if self._ended:
                return self._splitter.take_rest() or None
            if not self._splitter:
                slow_at = None
            elif slow_at is None:
                slow_at = loop.time() + self._settings.frame_timeout_s
            try:
                async with asyncio.timeout(self._patience_s(loop.time(), slow_at)):
                    received = await self._reader.read(READ_BYTES)
            except TimeoutError:
                if not self._splitter:
                    return None
                if _is_object(self._splitter.rest):
                    return self._splitter.take_rest()
                if slow_at is not None and loop.time() >= slow_at:
                    raise FramingError(
                        ErrorCode.TOO_SLOW,
                        f"a frame must be whole within {self._settings.frame_timeout_s:g} s"
                        " (server.frame_timeout_s)",
                    ) from None
                continue
            self._ended = not received
            self._splitter.feed(received)

    def _patience_s(self, now_s: float, slow_at_s: float | None) -> float:
        if slow_at_s is None:
            return self._settings.idle_timeout_s
        return max(0.0, min(self._settings.quiet_ms / 1000, slow_at_s - now_s))

    async def _answer(self, line: bytes) -> None:
        fields = parse(line)
        if isinstance(fields, Refusal):
            self._log_refused(fields, {}, line)
            await self._send(refusal_view(fields))
            return
        if self._in_flight.full:
            replies: Replies = Refusal(
                ErrorCode.BUSY, "too many frames at once (server.max_frames_in_flight)"
            )
        else:
            with self._in_flight.taken():
                replies = await self._carry_out(fields)
        if isinstance(replies, ToTheEnd):
            self.stays = True
            replies = replies.lines
        if isinstance(replies, AsyncIterator):
            await self._send_lines(replies)
            return
        if isinstance(replies, Refusal):
            self._log_refused(replies, fields, line)
            replies = refusal_view(replies)
        await self._send(replies)

    async def _send_lines(self, lines: Lines) -> None:
        try:
            async for some in lines:
                await self._send(*_views(some))
        except LedgerUnavailableError as error:
            # In the middle of a list, so that nobody takes it for a whole one.
            await self._send(refusal_view(Refusal(ErrorCode.NOT_DURABLE, str(error))))

    async def _carry_out(self, fields: dict[str, Any]) -> Replies:
        """Call the op. Whatever goes wrong inside is one frame's trouble: the reply says so."""
        refusal = self._unauthorized(fields.get("token"))
        if refusal is not None:
            return refusal
        name = fields.get("op", "broadcast")
        if name == "broadcast":
            fields.pop("op", None)
            log.info(
                "frame_received",
                peer=self._peer,
                key=_short(fields.get("key")),
                flag=_short(fields.get("flag")),
            )
        command = broadcast if name == "broadcast" else OPS.get(name) if isinstance(name, str) else None
        if command is None:
            known = ", ".join(["broadcast", *OPS])
            return Refusal(ErrorCode.UNKNOWN_OP, f"unknown op {str(name)[:40]!r}; accepted: {known}")
        try:
            return await command(self._use, fields)
        except LedgerUnavailableError as error:
            return Refusal(ErrorCode.NOT_DURABLE, str(error))
        except Exception:
            name = incident()
            log.exception("frame_failed", incident=name, peer=self._peer)
            return Refusal(ErrorCode.INTERNAL, f"an internal error, {name} in the log of broadcastd")

    def _unauthorized(self, token: Any) -> Refusal | None:
        wanted = self._settings.token
        if wanted is None or not wanted.get_secret_value():
            return None
        if isinstance(token, str) and hmac.compare_digest(
            token.encode("utf-8", "surrogatepass"), wanted.get_secret_value().encode()
        ):
            return None
        return Refusal(ErrorCode.UNAUTHORIZED, "token is missing" if token is None else "token is wrong")

    async def _send(self, *replies: Reply) -> None:
        try:
            for reply in replies:
                self._writer.write(orjson.dumps(reply, option=orjson.OPT_APPEND_NEWLINE))
            async with asyncio.timeout(self._settings.reply_timeout_s):
                await self._writer.drain()
        except RuntimeError as error:  # uvloop's word for a transport that is closed
            raise ConnectionResetError from error
        except TimeoutError:
            log.info("reader_cut_off", peer=self._peer, after_s=self._settings.reply_timeout_s)
            raise

    async def close(self) -> None:
        """Send what waits, and hang up."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()
        self._writer.transport.abort()

    def _log_refused(self, refusal: Refusal, fields: dict[str, Any], line: bytes) -> None:
        """The old client reads no answer: the log must say what became of its frame."""
        content = fields.get("content")
        log.warning(
            "frame_refused",
            peer=self._peer,
            error=refusal.code.word,
            message=refusal.message,
            key=_short(fields.get("key")),
            content=content[:CONTENT_SHOWN] if isinstance(content, str) else None,
            bytes=len(line),
        )


def _views(reply: Reply | Refusal | Sequence[Reply]) -> Sequence[Reply]:
    if isinstance(reply, Refusal):
        return [refusal_view(reply)]
    return [reply] if isinstance(reply, dict) else reply


def _is_object(rest: bytes) -> bool:
    try:
        return isinstance(orjson.loads(rest), dict)
    except ValueError:
        return False


def _short(value: Any) -> str | None:
    return None if value is None else str(value)[:128]
