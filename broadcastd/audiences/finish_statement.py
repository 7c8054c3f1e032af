"""Tells a site by a statement of its own, in its own database: the old `task.status`."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from broadcastd.audiences.engine import Database, own_statement
from broadcastd.errors import AudienceUnavailableError
from broadcastd.finished_settings import named_in, with_plain_literals
from broadcastd.model import Job
from broadcastd.outcomes import Outcome

log = structlog.get_logger()


class FinishStatement:
    """Implements `FinishHook`, in a database that takes changes."""

    name = "sql"

    def __init__(self, database: Database, sql: str, timezone: ZoneInfo) -> None:
        self._database = database
        self._named = named_in(sql)
        self._statement = own_statement(with_plain_literals(sql), *sorted(self._named))
        self._timezone = timezone

    async def tell(self, job: Job, now: datetime) -> str:
        """See `FinishHook`. A job without the `ref` or `key` that the statement names is left out."""
        del now
        values = {name: value for name, value in self._values(job).items() if name in self._named}
        missing = next((name for name in ("ref", "key") if name in values and values[name] is None), None)
        if missing is not None:
            log.info("finish_hook_left_out", job=job.id, account=job.account, hook=self.name, without=missing)
            return ""
        try:
            async with self._database.connection() as connection:
                await connection.execute(self._statement, values)
        except AudienceUnavailableError as error:
            return str(error)
        return ""

    def _values(self, job: Job) -> dict[str, Any]:
        finished_at = job.finished_at or job.accepted_at
        return {
            "ref": job.ref,
            "key": job.key,
            "job": job.id,
            "account": job.account,
            "state": job.state.value,
            "total": job.books.recipients,
            **{outcome.value: job.books.outcomes.get(outcome, 0) for outcome in Outcome},
            "in_doubt": job.books.in_doubt,
            "finished_at": f"{finished_at.astimezone(self._timezone):%Y-%m-%d %H:%M:%S}",
        }
