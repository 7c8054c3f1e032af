"""What every engine over asyncmy needs, whoever it is for."""

from typing import Any

import sqlalchemy as sa


def hang_up_at_once(engine: sa.Engine) -> None:
    """Have a connection that went wrong closed without a goodbye.

    SQLAlchemy lets the driver take its leave first, and waits for that without end; it does so also when a
    query is given up, so the timeout that gave it up has gone off by then. Nobody may be there to take it.
    """

    def hang_up(connection: Any) -> None:
        connection.driver_connection.close()

    engine.dialect.do_terminate = hang_up  # type: ignore[assignment, method-assign]
