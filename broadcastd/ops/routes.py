"""The routes: each checks its request, has the desk or the figures asked, and answers. One row each."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from broadcastd.access import Right
from broadcastd.errors import LedgerUnavailableError
from broadcastd.ops import health
from broadcastd.ops.answers import Answer, bad, json_answer, refused
from broadcastd.ops.bodies import FORM_FIELDS, reader_of
from broadcastd.ops.sources import Sources
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire.desk import Desk

if TYPE_CHECKING:
    from broadcastd.ops.collector import Exposition

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHARED_S = 1.0
"""Who asks for the metrics again within this gets the same: asking costs some milliseconds of the loop."""
SLICES_S = 1.0
"""How long the ledger may take to count its slices for them."""
JOB = "/jobs/{id}"
MOST_LISTED = 100
"""A list that somebody asks for and does not read stays in memory for a while."""
LIST_QUERY = ("limit", "open", "account")
FLAGS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    peer: str
    body: Callable[[], Awaitable[bytes | None]]
    """Reads it; None: too long. Raises TimeoutError."""


class Routes:
    """Answers whoever has come in by the door. `bare`: nothing about the daemon is told without a token."""

    def __init__(self, sources: Sources, desk: Desk, *, bare: bool) -> None:
        self._sources = sources
        self._desk = desk
        self._bare = bare
        self._exposition: Exposition | None = None
        self._scraping = asyncio.Lock()
        self._scraped: tuple[float, bytes] | None = None
        self._table: Mapping[str, Mapping[str, Callable[[Asked], Awaitable[Answer]]]] = {
            "/healthz": {"GET": self._healthz},
            "/readyz": {"GET": self._readyz},
            "/metrics": {"GET": self._metrics},
            "/jobs": {"GET": self._jobs, "POST": self._submit},
            JOB: {"GET": self._job},
        }

    async def answer(self, asked: Asked) -> Answer:
        """The answer to a request."""
        methods = self._table.get(self.route(asked.path))
        if methods is None:
            return bad(404, f"there is no such page; there are {', '.join(self._table)}")
        handler = methods.get("GET" if asked.method == "HEAD" else asked.method)
        if handler is None:
            return bad(405, f"accepted here: {', '.join(methods)}", {"Allow": ", ".join(methods)})
        return await handler(asked)

    def route(self, path: str) -> str:
        """The row that a path belongs to; empty: none."""
        first, _, job = path.rpartition("/")
        if first == "/jobs" and job:
            return JOB
        return path if path in self._table and path != JOB else ""

    # -- how it is -------------------------------------------------------------------------------------

    async def _healthz(self, asked: Asked) -> Answer:
        """Whoever gets this knows that the loop turns."""
        return _wrong_query(asked, ()) or json_answer(200, {"status": "ok"})

    async def _readyz(self, asked: Asked) -> Answer:
        wrong = _wrong_query(asked, ())
        if wrong is not None:
            return wrong
        parts = health.parts(self._sources)
        ready = all(part == health.OK for part in parts.values())
        status = "ready" if ready else "not ready"
        token = _token(asked)
        refusal = self._desk.barred(token, Right.READ, asked.path) if self._bare else None
        view = {"status": status} if refusal is not None else {"status": status, "parts": parts}
        guessed = token is not None and refusal is not None and refusal.code is ErrorCode.UNAUTHORIZED
        return replace(json_answer(200 if ready else 503, view), guessed=guessed)

    async def _metrics(self, asked: Asked) -> Answer:
        wrong = _wrong_query(asked, ())
        if wrong is not None:
            return wrong
        refusal = self._desk.barred(_token(asked), Right.READ, asked.path)
        if refusal is not None:
            return refused(self._desk.refused(refusal, {}, asked.peer))
        return Answer(200, await self._figures(), METRICS_TYPE)

    async def _figures(self) -> bytes:
        clock = self._sources.clock
        async with self._scraping:
            if self._scraped is not None and clock.monotonic_s() < self._scraped[0] + SHARED_S:
                return self._scraped[1]
            if self._exposition is None:
                # Some megabytes, for those who want metrics.
                from broadcastd.ops.collector import Exposition  # noqa: PLC0415

                self._exposition = Exposition(self._sources)
            try:
                async with asyncio.timeout(SLICES_S):
                    slices = sum((await self._sources.ledger.open_slices(clock.now())).values())
            except (LedgerUnavailableError, TimeoutError):
                slices = None
            text = self._exposition.text(slices)
            self._scraped = clock.monotonic_s(), text
            return text

    # -- jobs ------------------------------------------------------------------------------------------

    async def _submit(self, asked: Asked) -> Answer:
        fields = await self._fields(asked)
        if isinstance(fields, Answer):
            return fields
        if fields.get("op", "broadcast") != "broadcast":
            words = "op: a POST to /jobs is a broadcast; the other ops are for the frames' port"
            return self._refused(Refusal(ErrorCode.BAD_FRAME, words), asked)
        return await self._ask(asked, fields)

    async def _fields(self, asked: Asked) -> dict[str, Any] | Answer:
        if asked.query:
            return bad(400, "no query string here: what is in an address ends up in logs; put it in the body")
        reader = reader_of(asked.headers.get("Content-Type"))
        if isinstance(reader, str):
            return bad(415, reader)
        if asked.headers.get("Content-Encoding", "identity").lower() != "identity":
            return bad(415, "Content-Encoding: only plain bodies are read")
        try:
            body = await asked.body()
        except TimeoutError:
            return self._refused(Refusal(ErrorCode.TOO_SLOW, "the body did not come in time"), asked)
        if body is None:
            words = "the body is too long (http.max_body_bytes)"
            return self._refused(Refusal(ErrorCode.FRAME_TOO_LARGE, words), asked)
        fields = reader(body)
        return self._refused(fields, asked) if isinstance(fields, Refusal) else fields

    async def _jobs(self, asked: Asked) -> Answer:
        if set(asked.query) & set(FORM_FIELDS) - set(LIST_QUERY):
            words = (
                "a GET sends nothing: what is in an address ends up in logs, and is asked for again; use POST"
            )
            return bad(405, words, {"Allow": "POST"})
        wrong = _wrong_query(asked, LIST_QUERY)
        if wrong is not None:
            return wrong
        fields: dict[str, Any] = {"op": "jobs", **asked.query}
        limit, is_open = asked.query.get("limit", ""), asked.query.get("open", "")
        if "limit" in asked.query:
            if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_LISTED):
                return bad(400, f"limit: {limit[:40]!r} is no whole number from 1 to {MOST_LISTED}")
            fields["limit"] = int(limit[:9])
        if is_open.lower() in FLAGS:
            fields["open"] = FLAGS[is_open.lower()]
        return await self._ask(asked, fields)

    async def _job(self, asked: Asked) -> Answer:
        wrong = _wrong_query(asked, ())
        return wrong or await self._ask(asked, {"op": "job", "job": asked.path.rpartition("/")[2]})

    async def _ask(self, asked: Asked, fields: dict[str, Any]) -> Answer:
        """Have the desk answer a frame."""
        token = _token(asked)
        if token is not None:
            if "token" in fields:
                words = "token: it is in the body and in the Authorization header; send one of them"
                return self._refused(Refusal(ErrorCode.BAD_FRAME, words), asked)
            fields["token"] = token
        reply = await self._desk.answer(fields, asked.peer)
        if isinstance(reply, Refusal):
            return refused(reply)
        assert isinstance(reply, dict)
        if asked.method == "POST" and "job" in reply and not reply["repeat"]:
            return json_answer(201, reply, {"Location": f"/jobs/{reply['job']}"})
        return json_answer(200, reply)

    def _refused(self, refusal: Refusal, asked: Asked) -> Answer:
        return refused(self._desk.refused(refusal, {}, asked.peer))


def _wrong_query(asked: Asked, known: tuple[str, ...]) -> Answer | None:
    if "token" in asked.query:
        return bad(400, "a token in an address ends up in logs: send the header Authorization: Bearer TOKEN")
    unknown = [name for name in asked.query if name not in known]
    if unknown:
        accepted = ", ".join(known) or "nothing"
        return bad(400, f"query string: unknown {unknown[0][:40]!r}; accepted: {accepted}")
    return None


def _token(asked: Asked) -> str | None:
    """Of the Authorization header; another scheme's is a wrong token, not none."""
    value = asked.headers.get("Authorization")
    if value is None:
        return None
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
