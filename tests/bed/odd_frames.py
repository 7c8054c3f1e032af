"""Hypothesis strategies: bytes for the port, from noise to frames of every op that are almost right.

None of them changes a job, has WeChat do anything but take a message, or sends to anybody but `odd…`.
"""

import itertools
import json
from typing import Any

from hypothesis import strategies as st

NAMES = (
    "token", "op", "content", "phone", "key", "ref", "flag", "account", "to", "channels", "template", "data",
    "dry_run", "not_before", "not_after", "on_unknown", "job", "limit", "open", "every_s", "only", "round",
    "off", "per_second", "in_flight", "channel", "outcome", "openid", "report",
)  # fmt: skip
READING = ("ping", "info", "job", "jobs", "quota", "who", "report", "verify")
CHANGING = ("pause", "resume", "cancel", "retry", "tail")
WHOLE = ("rate", "drain", "adopt", "clear_quota")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([10**30, -(10**400), 1e308, -0.0, 5e-324])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
    | st.sampled_from(
        [
            "",
            "\0",
            "\x1b[31m",
            "\ud800",
            "\u202e",
            "[red]",
            "=1+1",
            "default",
            "none",
            "NaN",
            "9" * 200,
            "🦊" * 50,
        ]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=10), VALUES, max_size=6)


def _with_op(op: str, fields: dict[str, Any], **fixed: Any) -> dict[str, Any]:
    return {**fields, "op": op, **fixed}


def frames(jobs: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Frames of every op. `jobs`: ids that may be asked about, and are not changed."""
    known = st.sampled_from([*jobs, "none"]) | VALUES
    reading = st.builds(
        lambda op, fields, job: _with_op(
            op, fields, **({"job": job} if op in ("job", "who", "report") else {})
        ),
        st.sampled_from(READING),
        FIELDS,
        known,
    )
    changing = st.builds(
        lambda op, fields, job: _with_op(op, fields, job=job if job not in jobs else "none"),
        st.sampled_from(CHANGING),
        FIELDS,
        VALUES,
    )
    # An unknown field, so that they are looked at whole and never carried out.
    whole = st.builds(lambda op, fields: _with_op(op, fields, odd=1), st.sampled_from(WHOLE), FIELDS)
    test_sends = st.builds(
        lambda content, to, more: {
            **more,
            "content": content,
            "to": [f"odd{one}" for one in to],
        },
        st.text(max_size=60) | VALUES,
        st.lists(st.text(max_size=20), min_size=1, max_size=3),
        st.dictionaries(
            st.sampled_from(["key", "ref", "phone", "data", "not_before", "flag"]), VALUES, max_size=3
        ),
    )
    dry_runs = st.builds(lambda fields: {**fields, "dry_run": True}, FIELDS)
    no_op = st.builds(lambda fields, op: {**fields, "op": op, "odd": 1}, FIELDS, VALUES)
    return st.one_of(reading, changing, whole, test_sends, dry_runs, no_op)


def _encoded(frame: dict[str, Any], ascii_only: bool) -> bytes:
    # Lone surrogates: escaped they are JSON that no decoder of UTF-8 likes, bare they are no UTF-8 at all.
    return json.dumps(frame, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


@st.composite
def lines(draw: st.DrawFn, jobs: list[str]) -> bytes:
    """One frame as bytes, perhaps spoilt."""
    line = draw(st.builds(_encoded, frames(jobs), st.booleans()))
    spoil = draw(st.sampled_from(["not", "not", "cut", "twice", "noise", "huge", "deep", "bom"]))
    if spoil == "cut":
        line = line[: draw(st.integers(1, len(line)))]
    elif spoil == "twice":
        line = b'{"op":"ping",' + line[1:]
    elif spoil == "noise":
        at = draw(st.integers(1, len(line)))
        line = line[:at] + draw(st.binary(min_size=1, max_size=8)) + line[at:]
    elif spoil == "huge":
        line = b'{"op":"ping","token":%s}' % draw(
            st.sampled_from([b"9" * 5000, b"1e999999", b"-" + b"0" * 999])
        )
    elif spoil == "deep":
        depth = draw(st.sampled_from([10, 200, 1000, 20_000]))
        line = b'{"report":' + b"[" * depth + b"]" * draw(st.sampled_from([0, depth])) + b',"op":"verify"}'
    elif spoil == "bom":
        line = b"\xef\xbb\xbf" + line
    return line


def streams(jobs: list[str]) -> st.SearchStrategy[list[bytes]]:
    """What one connection brings, in the pieces in which it brings it."""
    ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\n\n \t\n", b""])
    whole = st.lists(st.builds(bytes.__add__, lines(jobs), ends), min_size=1, max_size=4).map(b"".join)
    stream = whole | st.binary(min_size=1, max_size=300) | st.binary(max_size=300).map(b"{".__add__)
    return st.builds(_pieces, stream, st.lists(st.floats(0, 1), max_size=3))


def _pieces(stream: bytes, cuts: list[float]) -> list[bytes]:
    bounds = [0, *sorted(int(cut * len(stream)) for cut in cuts), len(stream)]
    return [stream[one:other] for one, other in itertools.pairwise(bounds) if other > one]
