import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcastd.refusals import ErrorCode
from broadcastd.wire.framing import FrameSplitter, FramingError

FRAMES = st.lists(
    st.binary(max_size=30).map(lambda raw: b"{" + raw.translate(None, b"\r\n") + b"}"), max_size=8
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r\n \t\r\n", b" \n"])


def pieces(stream, cuts):
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(bounds)]


def frames_of(received, max_frame_bytes=1000):
    """Every frame of a stream that arrives so, and what its end left over; an error's code at the end."""
    splitter, found = FrameSplitter(max_frame_bytes), []
    try:
        for piece in received:
            splitter.feed(piece)
            while (frame := splitter.next_frame()) is not None:
                found.append(frame)
        if splitter:
            found.append(splitter.take_rest())
    except FramingError as error:
        found.append(error.code)
    return found


@given(FRAMES, st.data())
def test_any_split_of_the_stream_gives_the_same_frames(frames, data):
    stream = b"".join(frame + data.draw(LINE_ENDS) for frame in frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert [frame.rstrip() for frame in frames_of(pieces(stream, cuts))] == frames


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=20))
def test_garbage_is_cut_the_same_however_it_arrives(stream, cuts):
    assert frames_of(pieces(stream, cuts), 20) == frames_of([stream], 20)


def test_a_frame_comes_without_its_line_end():
    assert frames_of([b'{"a":1}\r\n{"b":2}\n']) == [b'{"a":1}', b'{"b":2}']


def test_blank_lines_are_ignored():
    assert frames_of([b"\n\r\n  \t\n", b"\n", b'{"a":1}\n', b" \r\n\t"]) == [b'{"a":1}']


def test_the_end_of_the_stream_ends_a_frame():
    assert frames_of([b'{"a":', b"1}"]) == [b'{"a":1}']


def test_a_half_frame_stays_until_more_comes():
    splitter = FrameSplitter(100)
    splitter.feed(b'{"a":')
    assert splitter.next_frame() is None
    assert splitter.rest == b'{"a":'
    splitter.feed(b"1}\n")
    assert splitter.next_frame() == b'{"a":1}'
    assert not splitter


@pytest.mark.parametrize("line_end", [b"", b"\n"])
def test_a_frame_of_exactly_the_limit_passes_and_one_byte_more_does_not(line_end):
    frame = b"{" + b"x" * 98 + b"}"
    assert frames_of([frame + line_end], 100) == [frame]
    assert frames_of([frame + b"x" + line_end], 100) == [ErrorCode.FRAME_TOO_LARGE]


def test_the_error_names_the_limit_and_its_setting():
    splitter = FrameSplitter(256)
    splitter.feed(b"{" * 257)
    with pytest.raises(FramingError, match=r"256 bytes \(server.max_frame_bytes\)"):
        splitter.next_frame()


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1\r\n", b"[1]\n", b'"x"\n', b"\xff\xfe", b"\0{}\n", b"\xef\xbb\xbf{}\n"]
)
def test_what_does_not_begin_like_an_object_ends_the_connection(line):
    assert frames_of([line, b'{"content":"x"}\n']) == [ErrorCode.BAD_FRAME]


def test_frames_before_the_bad_one_are_still_given():
    assert frames_of([b'{"a":1}\nPOST / HTTP/1.1\r\n\r\n{"b":2}\n']) == [b'{"a":1}', ErrorCode.BAD_FRAME]


@pytest.mark.parametrize(
    ("received", "may_be"),
    [
        (b'{"a":1}', True), (b'{"a":1} \t\r', True), (b'{"a":{}', True), (b'{"a":1}' + b" " * 100, True),
        (b'{"a":1', False), (b'{"a":"}"', False), (b"{", False), (b"", False),
    ],
)  # fmt: skip
def test_only_what_ends_like_an_object_may_be_whole(received, may_be):
    splitter = FrameSplitter(1000)
    splitter.feed(received)
    assert splitter.may_be_whole is may_be
