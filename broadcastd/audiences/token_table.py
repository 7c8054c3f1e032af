"""The access token from the site's own table: the site refreshes it, broadcastd reads it."""

import asyncio

import structlog

from broadcastd import retry
from broadcastd.audiences.engine import Database, own_statement
from broadcastd.errors import AudienceUnavailableError, TokenUnavailableError

log = structlog.get_logger()


class _NoTokenError(Exception):
    """The table yields no token that is worth trying; the text says why."""


class TableTokenSource:
    """Implements `TokenSource`. One read at a time, however many tasks find the token stale at once."""

    def __init__(self, database: Database, query: str, account: str) -> None:
        self._database = database
        self._query = own_statement(query)
        self._account = account
        self._cached: str | None = None
        self._stale: str | None = None
        self._reading = asyncio.Lock()
        self._failures = 0
        self._failures_in_a_row = 0
        self.trouble = ""

    async def token(self) -> str:
        """See `TokenSource`. A table that still holds the token that WeChat refused is no source of it."""
        if self._cached is not None:
            return self._cached
        failures = self._failures
        async with self._reading:
            if self._cached is None and self._failures == failures:
                await self._read()
            if self._cached is None:
                # Also for those who waited for that read: one read each would take them hours.
                raise TokenUnavailableError(self.trouble, retry.TOKEN.delay_s(self._failures_in_a_row))
        return self._cached

    def discard(self, token: str) -> None:
        """See `TokenSource`."""
        if self._cached == token:
            self._stale = token
            self._cached = None

    async def _read(self) -> None:
        try:
            self._cached = await self._found()
        except _NoTokenError as error:
            self._failures += 1
            self._failures_in_a_row += 1
            self.trouble = str(error)
            pause_s = retry.TOKEN.delay_s(self._failures_in_a_row)
            log.warning("token_unavailable", account=self._account, error=self.trouble, retry_in_s=pause_s)
        else:
            self._failures_in_a_row = 0
            self.trouble = ""

    async def _found(self) -> str:
        try:
            async with self._database.connection() as connection:
                row = (await connection.execute(self._query)).first()
        except AudienceUnavailableError as error:
            raise _NoTokenError(f"the access token cannot be read: {error}") from error
        if row is None or not row[0]:
            raise _NoTokenError("the site's table holds no access token")
        token = str(row[0])
        if token == self._stale:
            # Once: after the sender's pause it is tried again, for WeChat may have been wrong about it.
            self._stale = None
            raise _NoTokenError("the site's table still holds the token that WeChat calls stale")
        return token
