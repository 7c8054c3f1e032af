"""The access token from the site's own table: the site refreshes it, broadcastd reads it."""

import asyncio

from broadcastd.audiences.engine import Database, own_statement
from broadcastd.errors import AudienceUnavailableError, TokenUnavailableError


class TableTokenSource:
    """Implements `TokenSource`. One read at a time, however many tasks find the token stale at once."""

    def __init__(self, database: Database, query: str) -> None:
        self._database = database
        self._query = own_statement(query)
        self._cached: str | None = None
        self._stale: str | None = None
        self._reading = asyncio.Lock()

    async def token(self) -> str:
        """See `TokenSource`. A table that still holds the token that WeChat refused is no source of it."""
        if self._cached is not None:
            return self._cached
        async with self._reading:
            if self._cached is None:
                self._cached = await self._read()
        return self._cached

    def discard(self, token: str) -> None:
        """See `TokenSource`."""
        if self._cached == token:
            self._stale = token
            self._cached = None

    async def _read(self) -> str:
        try:
            async with self._database.connection() as connection:
                row = (await connection.execute(self._query)).first()
        except AudienceUnavailableError as error:
            raise TokenUnavailableError(f"the access token cannot be read: {error}") from error
        if row is None or not row[0]:
            raise TokenUnavailableError("the site's table holds no access token")
        token = str(row[0])
        if token == self._stale:
            # Once: after the sender's pause it is tried again, for WeChat may have been wrong about it.
            self._stale = None
            raise TokenUnavailableError("the site's table still holds the token that WeChat calls stale")
        return token
