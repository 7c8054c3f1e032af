"""Bytes in, frames out. Pure: no sockets, no time."""

from broadcastd.refusals import ErrorCode

_BLANK = b" \t\r\n"
MOST_BLANKS = 64
"""After an object, of those that are looked through; further ones are taken for the object's end."""
_TLS_HANDSHAKE = 0x16
"""What the first byte of TLS is."""


class FramingError(Exception):
    """The connection must be closed after a last reply with `code`."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class FrameSplitter:
    """One JSON object a line; what stands before the end of the stream is a frame too."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._max = max_frame_bytes
        self._buffer = bytearray()

    def change(self, max_frame_bytes: int) -> None:
        """Another limit, from now on."""
        self._max = max_frame_bytes

    def feed(self, received: bytes) -> None:
        """Take in what was received."""
        self._buffer += received

    @property
    def rest(self) -> bytes:
        """What was received of a frame that has not ended; empty between frames."""
        return bytes(self._buffer)

    def __bool__(self) -> bool:
        return bool(self._buffer)

    @property
    def may_be_whole(self) -> bool:
        """Whether what was received may be a whole object, by its last letter."""
        end = self._buffer[-MOST_BLANKS:].rstrip(_BLANK)
        return end.endswith(b"}") or (bool(self._buffer) and not end)

    @property
    def has_whole_frame(self) -> bool:
        """Whether the line of a frame has ended."""
        return b"\n" in self._buffer

    def next_frame(self) -> bytes | None:
        """The next whole frame, without its line end; None when more must be received.

        Raises FramingError for a frame that is too large, and for what does not begin like an object: no
        later byte of such a connection is looked at, so a web page that posts to this port gets nowhere.
        """
        start = 0
        while start < len(self._buffer) and self._buffer[start] in _BLANK:
            start += 1
        del self._buffer[:start]
        if not self._buffer:
            return None
        if self._buffer[0] != ord("{"):
            raise FramingError(
                ErrorCode.BAD_FRAME,
                "a frame is one JSON object a line: it must begin with {"
                + (
                    "; this is TLS, which this port does not have"
                    if self._buffer[0] == _TLS_HANDSHAKE
                    else ""
                ),
            )
        end = self._buffer.find(b"\n", 0, self._max + 1)
        if end < 0:
            if len(self._buffer) > self._max:
                raise FramingError(
                    ErrorCode.FRAME_TOO_LARGE, f"a frame may have {self._max} bytes (server.max_frame_bytes)"
                )
            return None
        frame = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return frame

    def take_rest(self) -> bytes:
        """End the frame here: the stream has ended, or its object is complete and silence follows."""
        frame = self.rest
        self._buffer.clear()
        return frame
