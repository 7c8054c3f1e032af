"""Fills in the openids that the ledger does not know: of who was not asked yet, or was in doubt after a kill.

The ledger freezes ids; an openid comes to it with an outcome. For the others the site's database is asked,
which may be away, or have forgotten them: then they stay without one.
"""

import dataclasses
from collections.abc import Sequence

import structlog

from broadcastd.errors import AudienceUnavailableError
from broadcastd.model import Job, Listed
from broadcastd.ports import Audience

log = structlog.get_logger()


class Openids:
    """Of one listing of one job."""

    def __init__(self, audience: Audience | None, job: Job) -> None:
        self._audience = audience
        self._job = job

    async def filled(self, block: Sequence[Listed]) -> Sequence[Listed]:
        """A slice's recipients, with their openids as far as they can be had."""
        missing = [one.recipient_id for one in block if one.openid is None]
        if self._audience is None or not missing:
            return block
        try:
            rows = await self._audience.pull(self._job.time, missing[0], missing[-1])
        except AudienceUnavailableError as error:
            log.warning("openids_not_found", job=self._job.id, error=str(error))
            self._audience = None  # once is enough: a list must not wait for each slice's timeout
            return block
        openids = dict(rows)
        return [
            one
            if one.openid is not None
            else dataclasses.replace(one, openid=openids.get(one.recipient_id) or None)
            for one in block
        ]
