"""Answers frames, whoever brings them: who may, which op, what became of it."""

import asyncio
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import structlog

from broadcastd.access import EVERYTHING, Access, Keyring, Right
from broadcastd.delivery.intake import CONTENT_SHOWN, incident
from broadcastd.errors import LedgerUnavailableError
from broadcastd.metrics import FrameCounts
from broadcastd.networks import Notes
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.server_settings import ServerSettings
from broadcastd.wire.ops import OPS
from broadcastd.wire.use_cases import Replies, UseCases

log = structlog.get_logger()

UNREADABLE_LOGGED = 60
"""Lines a minute and address, of frames that cannot be read or show a wrong token."""


class Desk:
    """One for the whole daemon."""

    def __init__(self, use: UseCases, settings: ServerSettings) -> None:
        self._use = use
        self._in_flight = asyncio.Semaphore(settings.max_frames_in_flight)
        self._notes = Notes(UNREADABLE_LOGGED)
        self.frames = FrameCounts()
        self.change(settings)

    def change(self, settings: ServerSettings) -> None:
        """Take other tokens for valid from now on."""
        self._keyring = keyring_of(settings)

    async def answer(self, fields: dict[str, Any], peer: str) -> Replies:
        """One frame's reply, or replies. A refusal is logged. `peer`: who brought it, for the log."""
        if self._in_flight.locked():
            return self.refused(
                Refusal(ErrorCode.BUSY, "too many frames at once (server.max_frames_in_flight)"), fields, peer
            )
        op = _op(fields)
        async with self._in_flight:
            replies = await self._carry_out(fields, peer)
        if isinstance(replies, Refusal):
            return self.refused(replies, {"op": op, **fields}, peer)
        self.frames.answered(op, "ok")
        return replies

    async def _carry_out(self, fields: dict[str, Any], peer: str) -> Replies:
        """Call the op. Whatever goes wrong inside is one frame's trouble: the reply says so."""
        token = fields.get("token")
        access = self._keyring.access(token)
        if access is None:
            return _unauthorized(token)
        name = fields.get("op", "broadcast")
        op = OPS.get(name) if isinstance(name, str) else None
        if op is None:
            said = repr(name[:40]) if isinstance(name, str) else f"of type {type(name).__name__}"
            return Refusal(ErrorCode.UNKNOWN_OP, f"unknown op {said}; accepted: {', '.join(OPS)}")
        refusal = _forbidden(access, name, op.rights, whole=op.whole)
        if refusal is not None:
            return refusal
        if name == "broadcast":
            fields.pop("op", None)
            log.info(
                "frame_received",
                peer=peer,
                caller=access.name or None,
                key=_short(fields.get("key")),
                flag=_short(fields.get("flag")),
            )
        use = self._use if access is EVERYTHING else dataclasses.replace(self._use, access=access)
        try:
            return await op.call(use, fields)
        except LedgerUnavailableError as error:
            return Refusal(ErrorCode.NOT_DURABLE, str(error))
        except Exception:
            name = incident()
            log.exception("frame_failed", incident=name, peer=peer)
            return Refusal(ErrorCode.INTERNAL, f"an internal error, {name} in the log of broadcastd")

    def barred(self, token: object, right: Right, what: str) -> Refusal | None:
        """Why whoever shows this token may not see `what`: no op, and about the whole daemon."""
        access = self._keyring.access(token)
        if access is None:
            return _unauthorized(token)
        return _forbidden(access, what, (right,), whole=True)

    def refused(
        self, refusal: Refusal, fields: dict[str, Any], peer: str, size: int | None = None
    ) -> Refusal:
        """Log it: the old client reads no answer, so the log must say what became of its frame.

        Of a flood of what is no frame, or has a wrong token, the log has a part only, and the number.
        """
        self.frames.answered(_op(fields), refusal.code.word)
        unsaid = None
        if not fields or refusal.code is ErrorCode.UNAUTHORIZED:
            now_s = asyncio.get_running_loop().time()
            unsaid = self._notes.note(peer.rpartition(":")[0], now_s)
            if unsaid is None:
                return refusal
        content = fields.get("content")
        log.warning(
            "frame_refused",
            peer=peer,
            unsaid=unsaid or None,
            error=refusal.code.word,
            message=refusal.message,
            key=_short(fields.get("key")),
            content=content[:CONTENT_SHOWN] if isinstance(content, str) else None,
            bytes=size,
        )
        return refusal


def keyring_of(settings: ServerSettings) -> Keyring:
    """The tokens that are good for something."""
    accesses = {
        one.token.get_secret_value(): Access(name, frozenset(one.rights), frozenset(one.accounts) or None)
        for name, one in settings.tokens.items()
    }
    if settings.token is not None:
        accesses[settings.token.get_secret_value()] = EVERYTHING
    return Keyring(accesses)


def _unauthorized(token: object) -> Refusal:
    return Refusal(ErrorCode.UNAUTHORIZED, "token is missing" if token is None else "token is wrong")


def _forbidden(access: Access, name: str, rights: Collection[Right], *, whole: bool) -> Refusal | None:
    if not access.rights.intersection(rights):
        needed = " or ".join(repr(one.value) for one in rights)
        words = f"the token {access.name!r} lacks the right {needed} that {name} needs"
        return Refusal(ErrorCode.FORBIDDEN, words)
    if whole and access.accounts is not None:
        return Refusal(
            ErrorCode.FORBIDDEN,
            f"the token {access.name!r} is for some accounts only, and {name} is about all of them",
        )
    return None


def _op(fields: Mapping[str, Any]) -> str:
    """Its name, from a closed list."""
    name = fields.get("op", "broadcast") if fields else None
    return name if isinstance(name, str) and name in OPS else "unknown"


def _short(value: Any) -> str | None:
    return str(value)[:128] if isinstance(value, str | int) else None
