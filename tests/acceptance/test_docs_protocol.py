"""docs/protocol.md is true: its dialogues are played against the real daemon, its tables are the code's."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import OK, CountingEndpoint, counting_endpoint
from bed.site import sqlite_site
from bed.wire import RawClient

from broadcastd.cli.main import Exit
from broadcastd.keywords import KINDS
from broadcastd.model import Books, Listed, Round
from broadcastd.refusals import ErrorCode
from broadcastd.server_settings import ServerSettings
from broadcastd.states import JOB_ARROWS
from broadcastd.wire.frames import BroadcastFrame
from broadcastd.wire.ops import OPS
from broadcastd.wire.views import books_view, listed_view, round_view

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "protocol.md").read_text(encoding="utf-8")
FOLLOWERS = 1200
OUTSIDE_WINDOW = (
    b'{"errcode":45015,"errmsg":"response out of time limit or subscription is canceled rid: 1-2-3"}'
)

NOT_FOLLOWING = b'{"errcode":40003,"errmsg":"invalid openid rid: 1-2-3"}'

ANYTHING = "…"
COPIED = "copied"
"""Settings of a dialogue whose daemon finds its ledger copied from another folder."""
NAME = re.compile(r"\$([a-z]+)")
VALUE = re.compile(r'"\$([a-z]+)"')
LATER = re.compile(r"<in (\d+) s>")


@dataclass
class Dialogue:
    """One fenced block: its place in the page, the daemon's settings, and what is said."""

    line_no: int
    settings: str
    lines: list[str]


def _dialogues() -> Iterator[Dialogue]:
    for block in re.finditer(r"^```dialogue *(.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE):
        yield Dialogue(PAGE[: block.start()].count("\n") + 2, block[1], block[2].splitlines())


def _table(after: str) -> list[list[str]]:
    """The rows of the first table after a heading, without its head."""
    rows = PAGE[PAGE.index(f"\n{after}\n") :].partition("\n|")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@dataclass
class Player:
    """Plays dialogues, one connection each. What a `$name` was bound to holds for the whole page."""

    bound: dict[str, Any] = field(default_factory=dict)

    def play(self, dialogue: Dialogue, daemon: DaemonProcess) -> None:
        any_lines = False
        with RawClient(daemon.port) as client:
            for number, line in enumerate(dialogue.lines, dialogue.line_no):
                where = f"docs/protocol.md:{number}: {line}"
                who, said = line[:2], line[2:].strip()
                assert who in ("C:", "S:"), where
                if who == "C:":
                    following = dialogue.lines[number - dialogue.line_no + 1 :][:1]
                    self._say(said, following, client, daemon)
                elif said == ANYTHING:
                    any_lines = True
                elif said == "<closed>":
                    assert client.hung_up(), where
                else:
                    self._hear(json.loads(said), client, where, any_lines=any_lines)
                    any_lines = False

    def _say(self, said: str, following: list[str], client: RawClient, daemon: DaemonProcess) -> None:
        if said == "<EOF>":
            client.end()
        elif said == "<SIGTERM>":
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
        elif said != "<silence>":
            said = self._filled(VALUE.sub(self._value, said))
            said = re.sub(r"<(\d+) × x>", lambda found: "x" * int(found[1]), said)
            said = LATER.sub(lambda found: _moment(int(found[1])), said)
            whole = said.removesuffix("<more to come>").removesuffix("<CRLF>")
            bare = said.endswith("<more to come>") or following in (["C: <EOF>"], ["C: <silence>"])
            client.send(whole + ("" if bare else "\r\n" if said.endswith("<CRLF>") else "\n"))

    def _hear(self, pattern: Any, client: RawClient, where: str, *, any_lines: bool) -> None:
        while True:
            try:
                reply = client.reply()
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"{where}\n  no such reply: {error}") from None
            mismatch = self._mismatch(pattern, reply)
            if not mismatch:
                return
            assert any_lines, f"{where}\n  {mismatch}\n  in {reply}"

    def _mismatch(self, pattern: Any, found: Any, path: str = "reply") -> str:
        """Where `found` is not as the pattern says; empty when it is."""
        if pattern == ANYTHING:
            return ""
        if isinstance(pattern, str) and (name := NAME.fullmatch(pattern)) and name[1] not in self.bound:
            self.bound[name[1]] = found
            return ""
        if isinstance(pattern, dict) and pattern:
            missing = sorted(pattern.keys() - found.keys()) if isinstance(found, dict) else sorted(pattern)
            if missing:
                return f"{path} has no {missing}"
            parts = [self._mismatch(pattern[key], found[key], f"{path}.{key}") for key in pattern]
        elif isinstance(pattern, list) and isinstance(found, list) and len(pattern) == len(found):
            parts = [self._mismatch(*pair, f"{path}[]") for pair in zip(pattern, found, strict=True)]
        else:
            wanted = self._filled(pattern) if isinstance(pattern, str) else pattern
            same = wanted == found and isinstance(wanted, bool) == isinstance(found, bool)
            parts = [] if same else [f"{path} is {found!r}, not {wanted!r}"]
        return next(filter(None, parts), "")

    def _value(self, found: re.Match[str]) -> str:
        """A whole answer's part, as it came."""
        return json.dumps(self.bound[found[1]]) if found[1] in self.bound else found[0]

    def _filled(self, text: str) -> str:
        return NAME.sub(lambda found: str(self.bound.get(found[1], found[0])), text)


def _moment(later_s: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=later_s)).isoformat()


class Followers:
    """What WeChat says of them: `oWORD` may not have the text, `oBACK` follows only the second time."""

    def __init__(self) -> None:
        self._asked: set[str] = set()

    def answer(self, path: str, body: dict[str, object]) -> bytes:
        who = str(body["touser"])
        if who == "oWORD":
            return b'{"errcode":45168,"errmsg":"keyword in blacklist rid: 1-2-3"}'
        if who == "oBACK" and who not in self._asked:
            self._asked.add(who)
            return NOT_FOLLOWING
        return OUTSIDE_WINDOW if "custom" in path and who[-1] in "05" else OK


def _start(
    stack: ExitStack, folder: Path, endpoint: CountingEndpoint, site: str, settings: str
) -> DaemonProcess:
    """The daemon of the dialogues with these settings: `name=value` of a server's, `ledger.name=value`."""
    folder.mkdir()
    if settings == COPIED:
        original = folder / "original"
        original.mkdir()
        with daemon_process(original, endpoint.url, site) as daemon:
            daemon.stop()
        folder = folder / "copy"
        shutil.copytree(original, folder)
    words = [] if settings == COPIED else settings.split()
    ledger = [word.removeprefix("ledger.") for word in words if word.startswith("ledger.")]
    server = [word for word in words if not word.startswith("ledger.")]
    return stack.enter_context(
        daemon_process(folder, endpoint.url, site, server="\n".join(server), ledger="\n".join(ledger))
    )


def test_every_dialogue_goes_as_it_is_written(tmp_path: Path) -> None:
    daemons: dict[str, DaemonProcess] = {}
    player = Player()
    played = 0
    with ExitStack() as stack:
        endpoint = stack.enter_context(counting_endpoint())
        endpoint.answer = Followers().answer
        site = sqlite_site(tmp_path / "site.db", FOLLOWERS)
        for dialogue in _dialogues():
            if dialogue.settings not in daemons:
                folder = tmp_path / str(len(daemons))
                daemons[dialogue.settings] = _start(stack, folder, endpoint, site, dialogue.settings)
            player.play(dialogue, daemons[dialogue.settings])
            played += 1
    assert played == PAGE.count("```dialogue")
    assert played >= 30


def test_the_error_codes_are_exactly_these() -> None:
    listed = [(_names(row[0])[0], row[1]) for row in _table("## Error codes")]
    assert listed == [(code.word, "yes" if code.retry else "no") for code in ErrorCode]


def test_the_ops_are_exactly_these() -> None:
    ops = PAGE.partition("\n## Ops\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### `(\w+)`$", ops, re.MULTILINE) == list(OPS)


def test_the_fields_of_a_broadcast_are_exactly_these() -> None:
    listed = [_names(row[0])[0] for row in _table("## The broadcast frame")]
    assert sorted(listed) == sorted(BroadcastFrame.model_fields)


def test_the_books_are_exactly_these() -> None:
    listed = [_names(row[0])[0] for row in _table("### Books")]
    assert listed == list(books_view(Books()))


def test_a_round_has_exactly_these_fields() -> None:
    assert [_names(row[0])[0] for row in _table("### Rounds")] == list(round_view(Round()))


def test_a_line_of_who_has_exactly_these_fields() -> None:
    listed = [_names(row[0])[0] for row in _table("### `who`")]
    assert ["ok", *listed] == list(listed_view(Listed(1)))


def test_the_states_and_their_arrows_are_exactly_these() -> None:
    listed = {_names(row[0])[0]: set(_names(row[2])) for row in _table("### States")}
    assert listed == {state.value: {to.value for to in arrows} for state, arrows in JOB_ARROWS.items()}


def test_jobs_and_reports_have_exactly_the_fields_of_the_tables(tmp_path: Path) -> None:
    listed = [name for row in _table("## Answers") for name in _names(row[0])]
    with (
        counting_endpoint() as endpoint,
        daemon_process(tmp_path, endpoint.url, sqlite_site(tmp_path / "site.db", 10)) as daemon,
    ):
        accepted = daemon.call({"content": "hello"})
        job = daemon.job(accepted["job"])
        info = daemon.call({"op": "info"})
        report = daemon.call({"op": "report", "job": accepted["job"]})["report"]
        drain = daemon.call({"op": "drain"})
    assert sorted(listed) == sorted(job.keys() - {"ok"})
    answer = re.search(r"A broadcast that is accepted answers with ([^.]*)\.", PAGE)
    assert answer is not None
    assert sorted(_names(answer[1])) == sorted(accepted)
    of_info = [_names(row[0])[0] for row in _table("### `info`")]
    assert sorted([*of_info, "ok", "op", "version", "pid", "uptime_s"]) == sorted(info)
    of_report = [name for row in _table("### `report`") for name in _names(row[0])]
    assert sorted(of_report) == sorted(report)
    of_drain = [_names(row[0])[0] for row in _table("### `drain`")]
    assert sorted([*of_drain, "ok"]) == sorted(drain)


def test_the_limits_are_exactly_these() -> None:
    listed = {_names(row[0])[0]: float(row[1]) for row in _table("## Limits")}
    fields = ServerSettings.model_fields
    numbers = {
        name: about.default for name, about in fields.items() if isinstance(about.default, int | float)
    }
    assert listed == {name: default for name, default in numbers.items() if name != "port"}


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_exit_codes_of_the_readme_are_exactly_these(page: str) -> None:
    text = (DOCS.parent / page).read_text(encoding="utf-8")
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert listed == [code.value for code in Exit]


def test_the_types_of_keywords_are_exactly_these() -> None:
    rows = [(_names(row[0])[0], row[1], row[2]) for row in _table("### Texts and keywords")]
    assert [(name, accepted) for name, accepted, _ in rows] == [
        (name, kind.accepted) for name, kind in KINDS.items()
    ]
    for name, _, too_long in rows:
        mark = KINDS[name].cut_mark
        cut = f"is cut, and ends with `{mark}`" if mark else "is cut"
        assert too_long == ("is refused" if mark is None else cut)
