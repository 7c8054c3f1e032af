"""Whether the daemon is ready for frames, part by part, in words without secrets."""

from broadcastd.delivery.loop_lag import LoopLag
from broadcastd.ops.sources import Sources

LAG_S = 5.0
"""A loop that was held up for so long within the last minute answers nobody in time."""

OK = "ok"


def parts(sources: Sources) -> dict[str, str]:
    """`ok`, or what is wrong, of each part. One that is not ready refuses frames, or answers them late."""
    intake = sources.intake
    accepting = OK
    if intake.stopping:
        accepting = "stopping"
    elif intake.draining:
        accepting = "draining: nothing new is accepted (broadcastd drain --off)"
    return {
        "ledger": _ledger(sources),
        "listener": OK if sources.listening() else "the frames' port is not open",
        "accepting": accepting,
        "loop": _loop(sources.loop_lag),
        "tasks": sources.progressing() or OK,
    }


def _ledger(sources: Sources) -> str:
    return sources.intake.not_durable or OK


def _loop(lag: LoopLag) -> str:
    most_s = lag.most_s
    return OK if most_s < LAG_S else f"was held up for {most_s:.1f} s within the last minute"
