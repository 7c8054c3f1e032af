"""The typed keywords of template and subscription messages: what WeChat takes as their values. Pure.

A keyword's type is its name without the digits at its end: `thing1`, `character_string21`. A value that
breaks its type's rule is answered with 47003, for every recipient; so it is cut, or refused, before a job is
accepted.

Sources: WeChat's tables of what a value may be, in Template_Message_Interface (category templates) and in
miniprogram subscribeMessage.send. They differ in `amount` (12 and 10 digits): what one of them takes is not
refused here. A type that they do not list is left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import regex

from broadcastd.texts import without_controls

SHOWN = 20
"""Characters of a field that WeChat shows since 2023-05-04; docs/wechat-api.md, section 2."""
NOT_SHOWN = ("first", "remark")
"""Keywords of old templates that WeChat drops since 2023-05-04."""

_EMOJI = regex.compile(r"\p{Emoji_Presentation}|\p{Extended_Pictographic}\uFE0F|[0-9#*]\uFE0F?\u20E3")
_GRAPHEME = regex.compile(r"\X")
_HAN = regex.compile(r"\p{Han}")
_DATE = r"([0-9]{4}([-/.][0-9]{1,2}){1,2}|[0-9]{1,2}[-/.][0-9]{1,2}|([0-9]{4}年)?[0-9]{1,2}月([0-9]{1,2}日)?)"
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a type of keyword takes."""

    accepted: str
    """In words, for who must change the value."""
    pattern: str
    """What the whole value must look like."""
    most: int | None = None
    """Characters, counted as UTF-16 does: none of the ways to count comes to more."""
    most_chinese: int | None = None
    """Instead of `most`, of a value with Chinese characters."""
    cut_mark: str | None = ""
    """How a cut value ends; None: part of such a value would be another value, so it is not cut."""
    may_be_empty: bool = False

    def most_of(self, value: str) -> int | None:
        """How many characters this value may have."""
        return self.most_chinese if self.most_chinese is not None and _HAN.search(value) else self.most


def _span(moment: str) -> str:
    return rf"{moment}(\s*~\s*({moment}|{_CLOCK}))?"


KINDS: Mapping[str, Kind] = {
    "thing": Kind("20 characters", r".*", 20, cut_mark="…"),
    # Full stops end what may hold symbols but no Chinese: whether "…" is one of its symbols, nobody says.
    # "No Chinese" is all that the tables say; of what else is not ASCII, nobody says that it passes.
    "character_string": Kind("32 digits, letters and symbols of ASCII", r"[ -~]*", 32, cut_mark="..."),
    "phone_number": Kind("17 digits and symbols", r"\P{L}*", 17, cut_mark="..."),
    "car_number": Kind(
        "8 letters and digits, of which the first and the last may be Chinese",
        r"[\p{Han}A-Za-z0-9][A-Za-z0-9]*[\p{Han}A-Za-z0-9]?",
        8,
    ),
    "name": Kind("20 letters or symbols, or 10 Chinese characters", r".*", 20, 10, "…"),
    "phrase": Kind("5 Chinese characters", r"\p{Han}*", 5),
    "letter": Kind("32 letters from A to Z", r"[A-Za-z]*", 32),
    "symbol": Kind("5 symbols, no letters or digits", r"[^\p{L}\p{N}]*", 5),
    "number": Kind("32 digits, with a decimal point or none", r"[+-]?[0-9]+(\.[0-9]+)?", 32, cut_mark=None),
    "amount": Kind(
        "12 digits, with a decimal point or none, a currency sign before and 元 after it or not",
        r"[^\w\s.]?[0-9]{1,12}(\.[0-9]+)?元?",
        cut_mark=None,
    ),
    "time": Kind(
        "15:01, 15:01:30 or 2019-10-01 15:01, or two of them with ~ between",
        _span(rf"({_DATE}\s*)?{_CLOCK}"),
        cut_mark=None,
    ),
    "date": Kind(
        "2019-10-01, 2019年10月1日 or with the time 2019-10-01 15:01, or two of them with ~ between",
        _span(rf"{_DATE}(\s*{_CLOCK})?"),
        cut_mark=None,
    ),
    # Part of a value that was approved is not.
    "const": Kind(
        "20 characters, and only values approved with the template",
        r".*",
        20,
        cut_mark=None,
        may_be_empty=True,
    ),
}


def kind_of(keyword: str) -> Kind | None:
    """What this keyword takes; None: it has no type, or an unknown one. Old names have no number: `name`."""
    kind = keyword.rstrip("0123456789")
    return KINDS.get(kind) if kind != keyword else None


def fitted(keyword: str, value: str) -> tuple[str, list[str]]:
    """The value as WeChat takes it, and what was changed. Raises ValueError when no change makes it fit."""
    kind = kind_of(keyword)
    if kind is None:
        return without_controls(value), []
    lines = _lines(value)
    clean = without_controls(" ".join(lines)).strip()
    plain = _without_emoji(clean).strip()
    changes = ["line breaks became spaces"] if len(lines) > 1 else []
    changes += ["emoji removed"] if plain != clean else []
    if not plain and not kind.may_be_empty:
        left = " once its emoji are removed" if clean else ""
        raise ValueError(f"{keyword} is empty{left}; accepted: {kind.accepted}")
    most = kind.most_of(plain)
    if most is not None and _length(plain) > most:
        if kind.cut_mark is None:
            raise ValueError(f"{keyword} has {_length(plain)} characters; accepted: {kind.accepted}")
        plain = cut(plain, most, kind.cut_mark)
        changes.append(f"cut to {most} characters")
    if not regex.fullmatch(kind.pattern, plain):
        raise ValueError(f"{keyword} does not fit its type; accepted: {kind.accepted}")
    return plain, changes


def cut(text: str, most: int, mark: str) -> str:
    """The first so many characters, the mark among them; no letter is parted from its accents."""
    room, kept = most - _length(mark), ""
    for grapheme in _GRAPHEME.findall(text):
        if _length(kept) + _length(grapheme) > room:
            break
        kept += grapheme
    return kept.rstrip() + mark


def hidden(keyword: str, value: str) -> str:
    """What WeChat does not show of a template message's value without a type, in words; else empty."""
    if keyword in NOT_SHOWN:
        return "WeChat does not show it since 2023-05-04"
    if kind_of(keyword) is not None:
        return ""
    if len(_lines(value)) > 1:
        return "WeChat shows no line breaks"
    if _length(_without_emoji(value)) > SHOWN:
        return f"WeChat shows its first {SHOWN} characters"
    return ""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _without_emoji(text: str) -> str:
    return "".join(one for one in _GRAPHEME.findall(text) if not _EMOJI.search(one))


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
