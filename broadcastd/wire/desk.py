"""Answers frames, whoever brings them: who may, which op, what became of it."""

import asyncio
import dataclasses
from typing import Any

import structlog

from broadcastd.access import EVERYTHING, Access, Keyring
from broadcastd.delivery.intake import CONTENT_SHOWN, incident
from broadcastd.errors import LedgerUnavailableError
from broadcastd.networks import Notes
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.server_settings import ServerSettings
from broadcastd.wire.ops import OPS, Op
from broadcastd.wire.turnstile import Turnstiles
from broadcastd.wire.use_cases import Replies, UseCases

log = structlog.get_logger()

UNREADABLE_LOGGED = 60
"""Lines a minute and address, of frames that cannot be read or show a wrong token."""


class Desk:
    """One for the whole daemon."""

    def __init__(self, use: UseCases, settings: ServerSettings) -> None:
        self._use = use
        self.turnstiles = Turnstiles()
        self._in_flight = asyncio.Semaphore(settings.max_frames_in_flight)
        self._notes = Notes(UNREADABLE_LOGGED)
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
        async with self._in_flight:
            replies = await self._carry_out(fields, peer)
        return self.refused(replies, fields, peer) if isinstance(replies, Refusal) else replies

    async def _carry_out(self, fields: dict[str, Any], peer: str) -> Replies:
        """Call the op. Whatever goes wrong inside is one frame's trouble: the reply says so."""
        token = fields.get("token")
        access = self._keyring.access(token)
        if access is None:
            return Refusal(ErrorCode.UNAUTHORIZED, "token is missing" if token is None else "token is wrong")
        name = fields.get("op", "broadcast")
        op = OPS.get(name) if isinstance(name, str) else None
        if op is None:
            said = repr(name[:40]) if isinstance(name, str) else f"of type {type(name).__name__}"
            return Refusal(ErrorCode.UNKNOWN_OP, f"unknown op {said}; accepted: {', '.join(OPS)}")
        refusal = _forbidden(access, name, op)
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

    def refused(
        self, refusal: Refusal, fields: dict[str, Any], peer: str, size: int | None = None
    ) -> Refusal:
        """Log it: the old client reads no answer, so the log must say what became of its frame.

        Of a flood of what is no frame, or has a wrong token, the log has a part only, and the number.
        """
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


def _forbidden(access: Access, name: str, op: Op) -> Refusal | None:
    if not access.rights.intersection(op.rights):
        needed = " or ".join(repr(one.value) for one in op.rights)
        words = f"the token {access.name!r} lacks the right {needed} that {name} needs"
        return Refusal(ErrorCode.FORBIDDEN, words)
    if op.whole and access.accounts is not None:
        return Refusal(
            ErrorCode.FORBIDDEN,
            f"the token {access.name!r} is for some accounts only, and {name} is about all of them",
        )
    return None


def _short(value: Any) -> str | None:
    return str(value)[:128] if isinstance(value, str | int) else None
