"""Answers frames, whoever brings them: who may, which op, what became of it."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import structlog

from broadcastd.access import EVERYTHING, Access, Keyring, Right
from broadcastd.delivery.intake import CONTENT_SHOWN, incident
from broadcastd.errors import LedgerUnavailableError
from broadcastd.metrics import FrameCounts
from broadcastd.networks import Notes
from broadcastd.notices import Notice, NoticeKind
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.server_settings import ServerSettings
from broadcastd.wire.ops import OPS
from broadcastd.wire.turnstile import Turnstiles
from broadcastd.wire.use_cases import Replies, UseCases

log = structlog.get_logger()

UNREADABLE_LOGGED = 60
"""Lines a minute and address, of frames that cannot be read or show a wrong token."""


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


class Desk:
    """One for the whole daemon."""

    def __init__(self, use: UseCases, settings: ServerSettings) -> None:
        self._use = use
        self.turnstiles = Turnstiles()
        self._in_flight = Places(settings.max_frames_in_flight)
        self._notes = Notes(UNREADABLE_LOGGED)
        self.frames = FrameCounts()
        self.change(settings)

    def change(self, settings: ServerSettings) -> None:
        """Take other tokens for valid, and so many frames at once, from now on."""
        self._in_flight.most = settings.max_frames_in_flight
        self._keyring = keyring_of(settings)

    async def answer(self, fields: dict[str, Any], peer: str) -> Replies:
        """One frame's reply, or replies. A refusal is logged. `peer`: who brought it, for the log."""
        if self._in_flight.full:
            return self.refused(
                Refusal(ErrorCode.BUSY, "too many frames at once (server.max_frames_in_flight)"), fields, peer
            )
        op = _op(fields)
        with self._in_flight.taken():
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
        """Say so: the old client reads no answer, so the log, and an operator, must know of its frame.

        Of a flood of what is no frame, or has a wrong token, the log has a part only, and the number.
        """
        op = _op(fields)
        self.frames.answered(op, refusal.code.word)
        content = fields.get("content")
        facts = {
            "error": refusal.code.word,
            "message": refusal.message,
            "account": _short(fields.get("account")),
            "key": _short(fields.get("key")),
            "ref": _short(fields.get("ref")),
            "content": content[:CONTENT_SHOWN] if isinstance(content, str) else None,
            "peer": peer,
        }
        # Who asks something has an eye on the answer: only posts are told of, and what may have been one.
        if (op == "broadcast" or not fields) and fields.get("dry_run") is not True:
            told = {name: fact for name, fact in facts.items() if fact is not None}
            self._use.notices.tell(Notice(NoticeKind.FRAME_REFUSED, facts=told))
        unsaid = None
        if not fields or refusal.code is ErrorCode.UNAUTHORIZED:
            now_s = asyncio.get_running_loop().time()
            unsaid = self._notes.note(peer.rpartition(":")[0], now_s)
            if unsaid is None:
                return refusal
        log.warning("frame_refused", **facts, unsaid=unsaid or None, bytes=size)
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
