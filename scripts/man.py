"""Writes the man page from the table of commands; `scripts/man` makes the environment and calls it."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from broadcastd import __version__
from broadcastd.cli.main import COMMANDS, Exit, cli

INTRODUCTION = """\
Sends a paid post to every follower of a WeChat Official Account, one customer-service or template message a
follower. A payment handler hands it one JSON line over TCP, port 9090; the post is on disk before the answer.
"""

EXITS = {
    Exit.OK: "Done.",
    Exit.FAILED: "Failed; one line on stderr says why.",
    Exit.USAGE: "Wrong usage.",
    Exit.NO_DAEMON: "No daemon answers.",
    Exit.BAD_SETTINGS: "The settings cannot be used.",
    Exit.REFUSED: "The daemon refused.",
    Exit.INTERRUPTED: "Interrupted.",
}

FILES = {
    "/etc/broadcastd/broadcastd.toml": "The settings, where neither -c nor BROADCASTD_CONFIG names others.",
    "/var/lib/broadcastd/broadcastd.db": "The ledger, where scripts/install-service puts it.",
}

ENVIRONMENT = {
    "BROADCASTD_CONFIG": "The settings file.",
    "BROADCASTD_SECTION__KEY": "A setting; it wins over the file: BROADCASTD_SERVER__PORT=9191.",
}


def page() -> str:
    """The whole page, in the man macros."""
    lines = [
        f'.TH BROADCASTD 1 "" "broadcastd {__version__}" "broadcastd"',
        ".SH NAME",
        r"broadcastd \- send a paid post to every follower of a WeChat Official Account",
        ".SH SYNOPSIS",
        r".B broadcastd",
        r".I COMMAND",
        "[OPTIONS] [ARGUMENTS]",
        ".SH DESCRIPTION",
        *_paragraphs(INTRODUCTION),
        ".SH COMMANDS",
    ]
    root = click.Context(cli, info_name="broadcastd")
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None, name
        lines += _command(command, name, root)
    lines += [".SH EXIT STATUS", *_terms({str(int(code)): words for code, words in EXITS.items()})]
    lines += [".SH ENVIRONMENT", *_terms(ENVIRONMENT), ".SH FILES", *_terms(FILES)]
    return "\n".join(lines) + "\n"


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    if command.hidden:
        return
    context = click.Context(command, info_name=name, parent=parent)
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            one = command.get_command(context, sub)
            assert one is not None, sub
            yield from _command(one, sub, context)
        if not command.invoke_without_command:
            return
    usage = " ".join(command.collect_usage_pieces(context))
    yield f'.SS "{_plain(context.command_path.removeprefix("broadcastd "))} {_plain(usage)}"'
    yield from _paragraphs(command.help or "")
    for option in command.params:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is not None and "--help" not in option.opts:
            yield from _terms({record[0]: record[1]})


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.replace("\b", "").strip())):
        if number:
            yield ".PP"
        yield _plain(" ".join(paragraph.split()))


def _terms(terms: dict[str, str]) -> Iterator[str]:
    for term, words in terms.items():
        yield from (".TP", rf"\fB{_plain(term)}\fR", _plain(" ".join(words.split())))


def _plain(text: str) -> str:
    """Text that troff takes as it is: its own signs escaped, and none at the start of a line."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
