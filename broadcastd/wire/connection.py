"""One connection: reads frames, replies in order, and is closed when it is idle, slow or broken."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import orjson
import structlog

from broadcastd.errors import LedgerUnavailableError
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.server_settings import ServerSettings
from broadcastd.wire.desk import Desk
from broadcastd.wire.frames import parse
from broadcastd.wire.framing import FrameSplitter, FramingError
from broadcastd.wire.use_cases import Lines
from broadcastd.wire.views import Reply, refusal_view

log = structlog.get_logger()

READ_BYTES = 65536


class Connection:
    """Serves one client until it leaves or must."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        desk: Desk,
        settings: ServerSettings,
        stopping: asyncio.Event,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._desk = desk
        self._settings = settings
        self._stopping = stopping
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
                if self._stopping.is_set():
                    return
        except FramingError as error:
            refusal = Refusal(error.code, error.message)
            rest = self._splitter.take_rest()
            await self._send(refusal_view(self._desk.refused(refusal, {}, self._peer, len(rest))))
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
            await self._send(refusal_view(self._desk.refused(fields, {}, self._peer, len(line))))
            return
        replies = await self._desk.answer(fields, self._peer)
        if isinstance(replies, AsyncIterator):
            self.stays = fields.get("op") == "stop"
            await self._send_lines(replies)
        else:
            await self._send(refusal_view(replies) if isinstance(replies, Refusal) else replies)

    async def _send_lines(self, lines: Lines) -> None:
        try:
            async for some in lines:
                await self._send(*_views(some))
        except LedgerUnavailableError as error:
            # In the middle of a list, so that nobody takes it for a whole one.
            await self._send(refusal_view(Refusal(ErrorCode.NOT_DURABLE, str(error))))

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


def _views(reply: Reply | Refusal | Sequence[Reply]) -> Sequence[Reply]:
    if isinstance(reply, Refusal):
        return [refusal_view(reply)]
    return [reply] if isinstance(reply, dict) else reply


def _is_object(rest: bytes) -> bool:
    try:
        return isinstance(orjson.loads(rest), dict)
    except ValueError:
        return False
