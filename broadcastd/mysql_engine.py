"""What every engine over asyncmy needs, whoever it is for."""

from typing import Any

import sqlalchemy as sa

from broadcastd import database_tls


def address_of(url: str) -> tuple[sa.URL, dict[str, Any]]:
    """A mysql:// url as the engine wants it, and the driver's arguments for its TLS. Raises SettingsError."""
    context = database_tls.context(url)
    address = sa.make_url(url).set(drivername="mysql+asyncmy").difference_update_query(database_tls.KEYS)
    return address.update_query_dict({"charset": "utf8mb4"}), {"ssl": context} if context else {}


def hang_up_at_once(engine: sa.Engine) -> None:
    """Have a connection that went wrong closed without a goodbye.

    SQLAlchemy lets the driver take its leave first, and waits for that without end; it does so also when a
    query is given up, so the timeout that gave it up has gone off by then. Nobody may be there to take it.
    """

    def hang_up(connection: Any) -> None:
        connection.driver_connection.close()

    engine.dialect.do_terminate = hang_up  # type: ignore[assignment, method-assign]
