"""The op `rate`: how fast an account's channels are, and how fast they may be."""

from typing import Annotated, Any, Literal

from pydantic import Field

from broadcastd.access import Right
from broadcastd.delivery.rates import Wanted
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire.frames import Name, check
from broadcastd.wire.use_cases import OpFrame, Replies, UseCases


class RateFrame(OpFrame):
    """Without `per_second` and `in_flight` it only looks."""

    account: Name | None = None
    channel: Name | None = None
    per_second: Annotated[float, Field(gt=0, le=1_000_000, strict=False)] | Literal["off"] | None = None
    in_flight: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None


async def rate(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Show or change rates and numbers in flight."""
    frame = check(RateFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    per_s = float("inf") if frame.per_second == "off" else frame.per_second
    in_flight = 0 if frame.in_flight == "auto" else frame.in_flight
    account = use.named(frame.account)
    if isinstance(account, Refusal):
        return account
    wanted = Wanted(account, frame.channel, per_s, in_flight)
    needed = Right.CONTROL if wanted.is_change else Right.READ
    if needed not in use.access.rights:
        return Refusal(ErrorCode.FORBIDDEN, f"the token {use.access.name!r} lacks the right {needed.value!r}")
    table = use.rates.apply(wanted)
    return table if isinstance(table, Refusal) else {"ok": True, "op": "rate", "accounts": table}
