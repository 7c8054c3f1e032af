"""The text of an alert: plain, and nothing in it from outside steers a terminal or a page."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from broadcastd.alerts.policy import Alert, Facts
from broadcastd.alerts.reasons import in_language
from broadcastd.alerts.words import FRAME, LABELS, NOT_SHOWN, RESTART, WORDS, Language, Words
from broadcastd.errcodes import MEANINGS, meaning_of
from broadcastd.log import escaped
from broadcastd.notices import NoticeKind

LONGEST_FACT = 500
LONGEST_TITLE = 150
_SENTENCES = ("reason", "message", "state")
"""Facts in words."""
# As `errcodes.in_words` begins: reasons carry the code within a sentence.
_CODE = re.compile(r"(?<![\w.-])(-1|\d{5,7})(?![\w.])")


@dataclass(frozen=True, slots=True)
class Text:
    """What is sent."""

    title: str
    body: str


def text_of(alert: Alert, language: Language, name: str) -> Text:
    """The text of an alert. `name`: what this installation is called."""
    frame = FRAME[language]
    if alert.kind is None:
        title = frame["more"].format(n=sum(alert.more.values()))
        lines = [frame["many_says"] + frame["colon"].rstrip()]
        lines += [
            f"{WORDS[language][NoticeKind(kind)].title.format(about='…')}: {n}"
            for kind, n in alert.more.items()
        ]
        return _whole(name, title, lines)
    words = WORDS[language][alert.kind]
    return _whole(name, _title(alert, words, language), list(_lines(alert, words, language)))


def _whole(name: str, title: str, lines: list[str]) -> Text:
    # Some services take a title for HTML, whatever they are told.
    harmless = f"[broadcastd {name}] {title}".translate(str.maketrans("<>", "‹›"))
    return Text(_shown(harmless, LONGEST_TITLE), "\n".join(lines).strip() + "\n")


def _title(alert: Alert, words: Words, language: Language) -> str:
    frame = FRAME[language]
    if alert.kind is NoticeKind.FRAME_REFUSED and alert.again > 1:
        return frame["many"].format(n=alert.again)
    title = (words.over if alert.over else words.title).format(about=_about(alert, language))
    code = errcode_of(alert.facts)
    if code is not None and not alert.over:
        title += f" ({code})"
    prefix = frame["over"] if alert.over else frame["still"] if alert.reminder else ""
    return f"{prefix}{frame['colon']}{title}" if prefix else title


def _lines(alert: Alert, words: Words, language: Language) -> Iterator[str]:
    frame = FRAME[language]
    if words.says and not alert.over:
        yield from (words.says, "")
    if alert.examples:
        yield from _examples(alert, language)
    else:
        yield from _facts(alert.facts, language)
    code = None if alert.over else errcode_of(alert.facts)
    if code is not None:
        yield f"{frame['means']}{frame['colon']}{code} {in_one_language(code, language)}"
    if alert.since is not None:
        yield f"{frame['since']}{frame['colon']}{_moment(alert.since)}"
    yield f"{frame['at']}{frame['colon']}{_moment(alert.at)}"
    if alert.flaps and not alert.over:
        yield frame["flaps"].format(n=alert.times)
    if alert.again and not alert.examples:
        yield frame["was" if alert.over else "said"].format(n=alert.again)
    if words.do and not alert.over:
        restart = _shown(str(alert.facts.get("restart") or RESTART[language]))
        do = words.do.format(about=_about(alert, language), restart=restart)
        yield from ("", f"{frame['do']}{frame['colon']}{do}")


def _about(alert: Alert, language: Language) -> str:
    return _shown(in_language(alert.about, language))


def _examples(alert: Alert, language: Language) -> Iterator[str]:
    if alert.again > len(alert.examples):
        yield FRAME[language]["last"] + FRAME[language]["colon"].rstrip()
    for facts in alert.examples:
        yield from (*_facts(facts, language), "")


def _facts(facts: Facts, language: Language) -> Iterator[str]:
    labels, colon = LABELS[language], FRAME[language]["colon"]
    known = [name for name in labels if name in facts]
    for name in (*known, *(name for name in facts if name not in labels)):
        if facts[name] != "" and name not in NOT_SHOWN:
            yield f"{labels.get(name, _shown(name))}{colon}{_shown(_value(name, facts[name], language))}"


def _value(name: str, value: str | float, language: Language) -> str:
    """A fact as it is shown."""
    if name == "lasted_s":
        return _lasted(float(value), FRAME[language])
    return in_language(str(value), language) if name in _SENTENCES else str(value)


def _lasted(seconds: float, frame: Mapping[str, str]) -> str:
    """`2 h 5 min`, `3 min 20 s`, `12 s`."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    if hours:
        return f"{hours}{frame['h']} {rest_min}{frame['min']}"
    return f"{minutes}{frame['min']} {rest_s}{frame['s']}" if minutes else f"{rest_s}{frame['s']}"


def errcode_of(facts: Facts) -> int | None:
    """WeChat's errcode, said by itself or within the reason; None: it is about something else."""
    said = facts.get("errcode")
    if isinstance(said, int):
        return said
    found = (int(code) for code in _CODE.findall(str(facts.get("reason", ""))))
    return next((code for code in found if code in MEANINGS), None)


def in_one_language(code: int, language: Language) -> str:
    """What an errcode means, without its number."""
    meaning = meaning_of(code)
    return meaning.zh if language == "zh" else meaning.en


def _moment(at: datetime) -> str:
    """In the machine's own time: that is where its operator looks at a clock."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S %z}"


def _shown(text: str, longest: int = LONGEST_FACT) -> str:
    safe = escaped(text.encode("utf-8", "replace").decode())
    return safe if len(safe) <= longest else f"{safe[: longest - 1]}…"
