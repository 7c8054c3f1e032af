"""The access token from the site's own table: the site refreshes it, broadcastd reads it."""

from broadcastd.audiences.engine import Database, own_statement
from broadcastd.clock import Clock
from broadcastd.errors import AudienceUnavailableError
from broadcastd.shared_token import NoTokenError, SharedToken


class TableTokenSource(SharedToken):
    """Implements `TokenSource`. It is read when WeChat refuses the present one, and not before."""

    def __init__(self, database: Database, query: str, account: str, clock: Clock) -> None:
        super().__init__(account, clock)
        self._database = database
        self._query = own_statement(query)
        self._try_again: str | None = None

    async def keep(self) -> None:
        """See `TokenSource`. The site does."""

    async def _found(self) -> str:
        """See `SharedToken`. A table that still holds the token that WeChat refused is no source of it."""
        try:
            async with self._database.connection() as connection:
                row = (await connection.execute(self._query)).first()
        except AudienceUnavailableError as error:
            raise NoTokenError(f"the access token cannot be read: {error}") from error
        if row is None or not row[0]:
            raise NoTokenError("the site's table holds no access token")
        token = str(row[0])
        if self._doubted(token) and token != self._try_again:
            # Once: after a pause it is tried again, for WeChat may have been wrong about it.
            self._try_again = token
            raise NoTokenError("the site's table still holds the token that WeChat calls stale")
        self._try_again = None
        return token
