"""A reason in the language of an alert.

Reasons are made where the trouble is, in English: that is what the log and `info` show, and what comes to the
monitor over the wire. In Chinese they are put by a catalogue of sentences (`reasons_zh`). What the catalogue
does not know is from outside, such as a database's own message: it is kept, and marked as the original.
"""

import re
from collections.abc import Sequence

from broadcastd.alerts.reasons_zh import SENTENCES, WORDS
from broadcastd.alerts.words import Language
from broadcastd.errcodes import in_words, meaning_of

DEEPEST = 8
"""Of sentences within sentences."""
LONGEST = 2000
"""Characters of a reason that are looked at."""
_WIDE = ("why", "first")
"""Fields that hold a whole sentence; the others have no blank within."""
_FIELD = re.compile(r"\{(\w+)\}")
_ERRCODE = re.compile(r"(?<![\w.-])(-1|\d{5,7})(?![\w.])")
_ENGLISH = re.compile(r"[A-Za-z']{2,} [A-Za-z']{2,}")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


def _pattern(sentence: str) -> re.Pattern[str]:
    texts = _FIELD.split(sentence)
    pieces = [
        (f"(?P<{text}>.+?)" if text in _WIDE else rf"(?P<{text}>\S+?)") if no % 2 else re.escape(text)
        for no, text in enumerate(texts)
    ]
    return re.compile("".join(pieces), re.DOTALL)


_PATTERNS: Sequence[tuple[re.Pattern[str], str]] = [
    (_pattern(english), chinese) for english, chinese in SENTENCES.items()
]


def in_language(reason: str, language: Language) -> str:
    """A reason as an alert in this language says it. Never raises."""
    if language == "en" or len(reason) > LONGEST:
        return reason
    return _put(_with_chinese_errcodes(reason), DEEPEST)


def _with_chinese_errcodes(reason: str) -> str:
    for code in {int(found) for found in _ERRCODE.findall(reason)}:
        reason = reason.replace(in_words(code), f"{code} {meaning_of(code).zh}")
    return reason


def _put(text: str, depth: int) -> str:
    known = _known(text, depth)
    if known is not None:
        return known
    if _CHINESE.search(text) or not _ENGLISH.search(text):
        return text
    return f"原文“{text}”"


def _known(text: str, depth: int) -> str | None:
    """By the catalogue; None: it knows no such sentence."""
    if text in WORDS or not depth:
        return WORDS.get(text)
    for pattern, chinese in _PATTERNS:
        if found := pattern.fullmatch(text):
            fields = {name: _put(part, depth - 1) for name, part in found.groupdict().items()}
            return chinese.format_map(fields)
    first, semicolon, rest = text.partition("; ")
    if semicolon and (known := _known(first, depth - 1)) is not None:
        return f"{known}；{_put(rest, depth - 1)}"
    return None
