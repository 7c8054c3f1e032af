import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.model import Request
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire.frames import MOST_FLAG, BroadcastFrame, Frame, check, parse
from broadcastd.wire.ops import JobFrame, JobsFrame, OpFrame, TailFrame

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KINDS = st.sampled_from([BroadcastFrame, OpFrame, JobFrame, JobsFrame, TailFrame])
FIELDS = sorted({name for kind in (BroadcastFrame, JobsFrame, TailFrame) for name in kind.model_fields})


def broadcast(**fields):
    frame = check(BroadcastFrame, {"content": "a post", **fields})
    assert isinstance(frame, BroadcastFrame), frame
    return frame.request()


def refused(kind=BroadcastFrame, **fields):
    refusal = check(kind, fields)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.code is ErrorCode.BAD_FRAME
    return refusal.message


def test_the_old_clients_frame():
    assert broadcast(phone="110", flag="3") == Request("a post", phone="110", flag=3)


def test_every_field():
    asked = broadcast(
        phone="110", key="k", ref="r", flag=2, account="shop", to=["o1", "o2", "o1"], channels=["template"],
        template="T1", data={"keyword5": "x"}, dry_run=True, token="t",
    )  # fmt: skip
    assert asked == Request(
        "a post",
        "110",
        "k",
        "r",
        2,
        "shop",
        ("o1", "o2"),
        ("template",),
        "T1",
        {"keyword5": "x"},
        dry_run=True,
    )


@pytest.mark.parametrize(
    ("flag", "number"), [("0", 0), (" 7 ", 7), ("007", 7), (0, 0), (MOST_FLAG, MOST_FLAG)]
)
def test_a_flag_may_be_a_numeric_string(flag, number):
    assert broadcast(flag=flag).flag == number


@pytest.mark.parametrize(
    "flag", ["", "x", "-1", "1.5", "٣", "²", "9" * 5000, -1, 1.5, True, MOST_FLAG + 1, [], {}]
)
def test_other_flags_are_refused(flag):
    assert refused(content="a post", flag=flag).startswith("flag: ")


@pytest.mark.parametrize("field", ["phone", "key", "ref"])
def test_php_sends_numbers_for_names_now_and_then(field):
    assert getattr(broadcast(**{field: 13800138000}), field) == "13800138000"


def test_unknown_fields_are_named_with_what_is_accepted():
    message = refused(content="a post", contnet="x")
    assert message == (
        "unknown field 'contnet'; accepted: token, content, phone, key, ref, flag, account, to, channels,"
        " template, data, dry_run, not_before, not_after, on_unknown"
    )


def test_a_missing_field_is_named():
    assert refused() == "content is missing"
    assert refused(JobFrame, op="job") == "job is missing"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content", 5), ("content", None), ("phone", 1.5), ("phone", "x" * 4097), ("key", ""),
        ("key", "x" * 129),
        ("key", True), ("ref", []), ("account", None), ("to", []), ("to", "o1"), ("to", [None]), ("to", [""]),
        ("channels", []), ("channels", "custom"), ("template", ""), ("data", []), ("data", {"k": None}),
        ("data", {"": "v"}), ("dry_run", "yes"), ("dry_run", 1), ("token", 5),
    ],
)  # fmt: skip
def test_every_wrong_value_is_refused_by_name(field, value):
    assert refused(**{"content": "a post", field: value}).startswith(field)


@given(KINDS, st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=10), JSON, max_size=6))
def test_no_json_value_raises(kind, fields):
    verdict = check(kind, fields)
    if isinstance(verdict, Refusal):
        assert verdict.code is ErrorCode.BAD_FRAME
        assert verdict.message
        orjson.dumps(verdict.message)
    else:
        assert set(fields) <= set(kind.model_fields)


@given(st.sampled_from([name for name in BroadcastFrame.model_fields if name != "content"]), JSON)
def test_no_value_of_one_field_raises(field, value):
    verdict = check(BroadcastFrame, {"content": "a post", field: value})
    if isinstance(verdict, Refusal):
        assert verdict.message.startswith(field)
    else:
        assert verdict.request().digest()


@given(st.binary(max_size=60) | JSON.map(orjson.dumps))
def test_no_line_raises(line):
    verdict = parse(line)
    assert isinstance(verdict, (dict, Refusal))
    if isinstance(verdict, Refusal):
        assert verdict.code in (ErrorCode.BAD_JSON, ErrorCode.BAD_FRAME)


@pytest.mark.parametrize(
    "line", [b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"a":"\\ud800"}', b"{'a':1}", b'{"a":NaN}']
)
def test_odd_json_is_bad_json(line):
    verdict = parse(line)
    assert isinstance(verdict, Refusal)
    assert verdict.code is ErrorCode.BAD_JSON


def test_a_frame_is_an_object():
    assert parse(b"[1]") == Refusal(ErrorCode.BAD_FRAME, "a frame is a JSON object")


@given(JSON.map(orjson.dumps), st.integers(0, 50))
def test_a_cut_object_is_bad_json(value, at):
    line = b'{"content":' + value + b"}"
    assert isinstance(parse(line[: min(at, len(line) - 1)]), Refusal)


def test_the_list_and_tail_ops_have_bounds():
    assert check(JobsFrame, {"op": "jobs"}).limit == 20
    assert check(TailFrame, {"op": "tail", "job": "j1", "every_s": 2}).every_s == 2.0
    assert refused(JobsFrame, op="jobs", limit=0).startswith("limit: ")
    assert refused(TailFrame, op="tail", job="j1", every_s=0).startswith("every_s: ")


def test_a_bare_frame_takes_only_a_token():
    assert isinstance(check(Frame, {"token": "t"}), Frame)
    assert refused(Frame, x=1) == "unknown field 'x'; accepted: token"


def test_error_codes_are_a_closed_list_with_one_word_each():
    words = [code.word for code in ErrorCode]
    assert len(words) == len(set(words))
    assert {code.word for code in ErrorCode if code.retry} == {
        "too_slow", "not_durable", "busy", "draining", "audience_unavailable", "internal",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2026-01-31T08:00:00+08:00", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T00:00:00Z", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31 08:00:00.123456+08:00", "2026-01-31T00:00:00.123000+00:00"),
        (1769817600, "2026-01-31T00:00:00+00:00"),
        (1769817600.5, "2026-01-31T00:00:00.500000+00:00"),
    ],
)
def test_times_as_callers_write_them(given, meant):
    frame = check(BroadcastFrame, {"content": "a post", "not_before": given, "not_after": given})
    assert frame.request().not_before.isoformat() == meant
    assert frame.request().not_after.isoformat() == meant


@pytest.mark.parametrize(
    "given",
    ["2026-01-31T08:00:00", "tomorrow", "", True, [], {}, 1e300, -1, 10**18, "9999-12-31T23:59:59Z",
     "0001-01-01T00:00:00+23:59"],
)  # fmt: skip
def test_times_that_are_none_say_what_is_accepted(given):
    message = refused(content="a post", not_after=given)
    assert message.startswith("not_after: ")
    assert 'accepted: "2026-01-31T08:00:00+08:00", or seconds since 1970' in message


@pytest.mark.parametrize(
    "report", [b'{"recipients":9,"recipients":3,"hmac":"x"}', b'{"hmac":"x","outcomes":{"sent":9,"sent":3}}',
               b'{"hmac":"x","rounds":[{"no":1,"no":2}]}'],
)  # fmt: skip
def test_what_is_verified_has_no_name_twice(report):
    refusal = parse(b'{"op":"verify","report":' + report + b"}")
    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.BAD_FRAME
    assert "stands twice" in refusal.message
    assert isinstance(parse(b'{"op":"verify","report":{"a":{"n":1},"b":{"n":1}}}'), dict)
