"""The ops on the daemon as a whole: `stop` and `reload`."""

from typing import Annotated, Any

from pydantic import Field

from broadcastd.errors import SettingsError
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire.frames import check
from broadcastd.wire.use_cases import Lines, OpFrame, Replies, UseCases


class StopFrame(OpFrame):
    """Drain and end."""

    every_s: Annotated[float, Field(ge=0.1, le=3600, strict=False)] | None = None


async def stop(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Let end what is under way, then end; with `every_s`, say how far it is."""
    frame = check(StopFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    line = _stop_line(use, "stopping")
    use.life.stopping.set()
    return line if frame.every_s is None else _stop_lines(use, frame.every_s)


async def _stop_lines(use: UseCases, every_s: float) -> Lines:
    while True:
        yield _stop_line(use, "stopping")
        if await use.life.drained_within(every_s):
            yield _stop_line(use, "drained")
            return


def _stop_line(use: UseCases, state: str) -> dict[str, Any]:
    return {"ok": True, "op": "stop", "state": state, **use.status.under_way()}


async def reload(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Read the settings again."""
    frame = check(OpFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    try:
        found = use.life.reload()
    except SettingsError as error:
        return Refusal(ErrorCode.BAD_SETTINGS, f"nothing is changed: {error}")
    return {"ok": True, "op": "reload", "changed": found.changed, "needs_restart": found.needs_restart}
