"""The access token from the site's own table: the site refreshes it, broadcastd reads it."""

from broadcastd.audiences.engine import Database, own_statement
from broadcastd.clock import Clock
from broadcastd.errors import AudienceUnavailableError
from broadcastd.shared_token import NoTokenError, SharedToken

LATE_S = 600.0
"""Sites refresh it ahead of its end, or now and then a little late."""


class TableTokenSource(SharedToken):
    """Implements `TokenSource`. It is read when WeChat refuses the present one, and not before."""

    def __init__(
        self, database: Database, query: str, account: str, clock: Clock, lives_s: float | None = None
    ) -> None:
        """`lives_s`: how long such a token lives; None: nobody knows."""
        super().__init__(account, clock)
        self._lives_s = lives_s
        self._seen = ""
        self._seen_s = 0.0
        self._database = database
        self._query = own_statement(query)
        self._try_again: str | None = None

    async def keep(self) -> None:
        """See `TokenSource`. The site does."""

    async def look(self) -> str:
        """See `TokenSource`. A table that nobody refreshes is seen before a post has to find out."""
        await self.token()
        if self._lives_s is None:
            return ""
        try:
            token = await self._read()
        except NoTokenError as error:
            return str(error)
        now_s = self._clock.monotonic_s()
        if token != self._seen:
            self._seen, self._seen_s = token, now_s
        unchanged_s = now_s - self._seen_s
        if unchanged_s <= self._lives_s + LATE_S:
            return ""
        return (
            f"the site's table has held the same access token for {unchanged_s / 3600:.1f} h, and WeChat's"
            f" live for {self._lives_s / 3600:g} h: does the site still refresh it?"
        )

    async def _read(self) -> str:
        try:
            async with self._database.connection() as connection:
                row = (await connection.execute(self._query)).first()
        except AudienceUnavailableError as error:
            raise NoTokenError(f"the access token cannot be read: {error}") from error
        if row is None or not row[0]:
            raise NoTokenError("the site's table holds no access token")
        return str(row[0])

    async def _found(self) -> str:
        """See `SharedToken`. A table that still holds the token that WeChat refused is no source of it."""
        token = await self._read()
        if self._doubted(token) and token != self._try_again:
            # Once: after a pause it is tried again, for WeChat may have been wrong about it.
            self._try_again = token
            raise NoTokenError("the site's table still holds the token that WeChat calls stale")
        self._try_again = None
        return token
