"""atheris on what the port does with bytes before it acts: `python -m bed.fuzz_parsing CORPUS OPTION…`.

Ends with a traceback and exit code 77 when anything is raised but a refusal.
"""

import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["broadcastd.wire", "broadcastd.model"]):
    import orjson

    from broadcastd.refusals import Refusal
    from broadcastd.wire.control_ops import DrainFrame, RetryFrame
    from broadcastd.wire.frames import BroadcastFrame, check, parse
    from broadcastd.wire.framing import FrameSplitter, FramingError
    from broadcastd.wire.ops import JobFrame, JobsFrame, OpFrame, TailFrame
    from broadcastd.wire.people_ops import VerifyFrame, WhoFrame
    from broadcastd.wire.quota_ops import ClearQuotaFrame, QuotaFrame
    from broadcastd.wire.rate_ops import RateFrame

KINDS: dict[Any, Any] = {
    "broadcast": BroadcastFrame, "drain": DrainFrame, "retry": RetryFrame, "job": JobFrame, "jobs": JobsFrame,
    "ping": OpFrame, "tail": TailFrame, "verify": VerifyFrame, "who": WhoFrame,
    "clear_quota": ClearQuotaFrame, "quota": QuotaFrame, "rate": RateFrame,
}  # fmt: skip
MAX_FRAME_BYTES = 4096


def bring(data: bytes) -> None:
    """The first byte says where the rest is cut in two."""
    cut = 1 + data[0] * len(data) // 256 if data else 0
    splitter = FrameSplitter(MAX_FRAME_BYTES)
    try:
        for piece in (data[1:cut], data[cut:]):
            splitter.feed(piece)
            while (line := splitter.next_frame()) is not None:
                look_at(line)
        if splitter.may_be_whole:
            look_at(splitter.take_rest())
    except FramingError:
        pass


def look_at(line: bytes) -> None:
    fields = parse(line)
    if isinstance(fields, Refusal):
        orjson.dumps(fields.message)
        return
    op = fields.get("op", "broadcast")
    frame = check(KINDS.get(op, OpFrame) if isinstance(op, str) else OpFrame, fields)
    if isinstance(frame, Refusal):
        orjson.dumps(frame.message)
    elif isinstance(frame, BroadcastFrame):
        frame.request().digest()


if __name__ == "__main__":
    atheris.Setup(sys.argv, bring)
    atheris.Fuzz()
