"""The site's own table of who is to be sent to: the statements that a follower's replies run."""

from collections.abc import Collection, Mapping

from broadcastd.audiences.engine import Database, own_statement
from broadcastd.callback_settings import AccountCallbackSettings
from broadcastd.pushes import PushKind


class SqlRegistry:
    """Implements `Registry` by the account's statements, in a database that takes changes."""

    def __init__(self, database: Database, settings: AccountCallbackSettings) -> None:
        self._database = database
        statements: Mapping[PushKind, str] = {
            PushKind.OPT_OUT: settings.opt_out_sql,
            PushKind.OPT_IN: settings.opt_in_sql,
            PushKind.SUBSCRIBE: settings.subscribe_sql,
            PushKind.UNSUBSCRIBE: settings.unsubscribe_sql,
        }
        self._statements = {kind: own_statement(sql, "openid") for kind, sql in statements.items() if sql}

    @property
    def kinds(self) -> Collection[PushKind]:
        """See `Registry`."""
        return self._statements.keys()

    async def note(self, kind: PushKind, openid: str) -> None:
        """See `Registry`."""
        if kind in self._statements:
            async with self._database.connection() as connection:
                await connection.execute(self._statements[kind], {"openid": openid})
