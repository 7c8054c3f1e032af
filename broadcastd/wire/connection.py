"""One connection: reads frames, replies in order, and is closed when it is idle, slow or broken."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Sequence

import orjson
import structlog

from broadcastd.errors import LedgerUnavailableError
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.server_settings import ServerSettings
from broadcastd.wire.desk import Desk
from broadcastd.wire.frames import parse
from broadcastd.wire.framing import FrameSplitter, FramingError
from broadcastd.wire.json_line import json_line
from broadcastd.wire.seats import Seat
from broadcastd.wire.tls_stream import TlsStream
from broadcastd.wire.use_cases import Lines
from broadcastd.wire.views import Reply, refusal_view

log = structlog.get_logger()

READ_BYTES = 16384
WRONG_TOKEN_S = 0.2
"""How long whoever shows a wrong token waits for the answer."""


class Connection:
    """Serves one client until it leaves or must."""

    def __init__(
        self,
        reader: asyncio.StreamReader | TlsStream,
        writer: asyncio.StreamWriter | TlsStream,
        desk: Desk,
        settings: ServerSettings,
        seat: Seat,
        stopping: asyncio.Event,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._desk = desk
        self._settings = settings
        self._seat = seat
        self._stopping = stopping
        self._splitter = FrameSplitter(settings.max_frame_bytes)
        self._ended = False
        self.replying = False
        self.stays = False
        """It is told how far the end of the daemon is."""
        self._answered_any = False
        peer = writer.transport.get_extra_info("peername")
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
        # The old client leaves without reading its reply; who does not read theirs is cut off.
        with contextlib.suppress(ConnectionError, TimeoutError):
            try:
                await self._serve_frames()
            except FramingError as error:
                refusal = Refusal(error.code, error.message)
                rest = self._splitter.take_rest()
                await self._send(refusal_view(self._desk.refused(refusal, {}, self._peer, len(rest))))

    async def _serve_frames(self) -> None:
        paid = True
        while (line := await self._next_line()) is not None:
            if not paid:
                await self._desk.turnstiles.frames.passed()
            self._seat.busy()
            self.replying = True
            try:
                paid = await self._answer(line)
            finally:
                self.replying = False
                self._answered_any = True
            self._seat.idle()
            if self._stopping.is_set():
                return

    async def _next_line(self) -> bytes | None:
        """The next frame; None when the client has left or was idle. Raises FramingError."""
        loop = asyncio.get_running_loop()
        # However many bytes come in between, be they blanks or a frame's: neither is ever put off.
        idle_at, slow_at = loop.time() + self._settings.idle_timeout_s, math.inf
        while True:
            line = self._splitter.next_frame()
            if line is not None:
                return line
            if self._ended:
                return self._splitter.take_rest() or None
            if self._splitter and slow_at == math.inf:
                slow_at = loop.time() + self._settings.frame_timeout_s
                self._seat.idle()
            quiet_s = self._settings.quiet_ms / 1000 if self._splitter.may_be_whole else math.inf
            until = min(loop.time() + quiet_s, slow_at if self._splitter else idle_at)
            try:
                async with asyncio.timeout_at(until):
                    received = await self._reader.read(READ_BYTES)
            except TimeoutError:
                if not self._splitter:
                    return None
                if _is_object(self._splitter.rest):
                    return self._splitter.take_rest()
                received = None
            if received is not None:
                self._ended = not received
                self._splitter.feed(received)
            if self._splitter and loop.time() >= slow_at and not self._splitter.has_whole_frame:
                raise self._too_slow()

    def _too_slow(self) -> FramingError:
        limit_s = self._settings.frame_timeout_s
        return FramingError(
            ErrorCode.TOO_SLOW, f"a frame must be whole within {limit_s:g} s (server.frame_timeout_s)"
        )

    async def _answer(self, line: bytes) -> bool:
        """Reply to a frame; whether it was a broadcast and accepted, for which nobody has to wait."""
        fields = parse(line)
        if isinstance(fields, Refusal):
            await self._send(refusal_view(self._desk.refused(fields, {}, self._peer, len(line))))
            return False
        is_broadcast = fields.get("op", "broadcast") == "broadcast"
        replies = await self._desk.answer(fields, self._peer)
        if isinstance(replies, Refusal) and replies.code is ErrorCode.UNAUTHORIZED:
            # Who guesses has to wait, and keeps nobody else from a place meanwhile.
            self._seat.idle()
            await asyncio.sleep(WRONG_TOKEN_S)
        if isinstance(replies, AsyncIterator):
            self.stays = fields.get("op") == "stop"
            await self._send_lines(replies)
            return False
        reply = refusal_view(replies) if isinstance(replies, Refusal) else replies
        await self._send(reply)
        return is_broadcast and bool(reply["ok"])

    async def _send_lines(self, lines: Lines) -> None:
        began_s = asyncio.get_running_loop().time()
        try:
            self._seat.following(began_s)
            async for some in lines:
                await self._send(*_views(some))
                self._seat.following(began_s)
                if isinstance(some, dict):
                    await self._desk.turnstiles.lines.passed()
        except LedgerUnavailableError as error:
            # In the middle of a list, so that nobody takes it for a whole one.
            await self._send(refusal_view(Refusal(ErrorCode.NOT_DURABLE, str(error))))

    async def _send(self, *replies: Reply) -> None:
        try:
            for reply in replies:
                # Not what orjson returns: that holds 4 KiB, however short it is, until it is sent.
                self._writer.write(json_line(reply))
            if self._writer.transport.is_closing():
                raise ConnectionResetError
            if self._writer.transport.get_write_buffer_size():
                self._seat.unread()
                async with asyncio.timeout(self._settings.reply_timeout_s):
                    await self._writer.drain()
                self._seat.busy()
        except RuntimeError as error:  # uvloop's word for a transport that is closed
            raise ConnectionResetError from error
        except TimeoutError:
            log.info("reader_cut_off", peer=self._peer, after_s=self._settings.reply_timeout_s)
            raise

    async def close(self) -> None:
        """Send what waits, and hang up."""
        self._seat.idle()  # what waits may be waiting for a reader who never reads
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
    if not rest.rstrip().endswith(b"}"):
        return False  # cheaper than reading it all, each time that somebody pauses in it
    try:
        return isinstance(orjson.loads(rest), dict)
    except ValueError:
        return False
