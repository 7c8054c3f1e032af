"""docs/operations.md and its Chinese twin: what they tell to type exists; a backup is put back as written."""

import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from bed.daemon import DaemonProcess, daemon_process
from bed.endpoint import counting_endpoint
from bed.site import sqlite_site

from broadcastd.cli.main import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = ("operations.md", "operations.zh-CN.md")


def _page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _typed(text: str) -> list[str]:
    """Everything there is to type: the lines of blocks (of a dialogue, those after `$`), and what stands in
    backquotes within the text."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    lines = []
    for language, block in fenced.findall(text):
        shown = [line for line in block.splitlines() if line]
        if language == "console":
            shown = [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]
        lines += shown
    inline = [" ".join(one.split()) for one in re.findall(r"`([^`]+)`", fenced.sub("", text))]
    return [*lines, *(one for one in inline if one.startswith(("sudo ", "broadcastd ")))]


def test_both_pages_tell_to_type_the_same() -> None:
    english, chinese = (_page(name) for name in PAGES)
    assert _typed(english) == _typed(chinese)
    assert english.count("\n## ") == chinese.count("\n## ")
    assert english.count("\n| ") == chinese.count("\n| ")


def _first_cells(text: str) -> list[list[str]]:
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return [re.findall(r"`([^`]+)`", cell) for cell in cells]


def test_both_pages_have_the_same_rows() -> None:
    english, chinese = (_first_cells(_page(name)) for name in PAGES)
    assert english == chinese
    assert sum(map(bool, english)) > 30


def test_every_command_and_option_exists() -> None:
    seen = 0
    for typed in _typed(_page(PAGES[0])):
        found = re.search(r"(?:^|sudo |/usr/local/bin/)broadcastd (.*)", typed)
        if found is None:
            continue
        words = [word for word in shlex.split(found[1]) if not word.startswith("$(")]
        command: click.Command = cli
        context = click.Context(cli, info_name="broadcastd")
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            inner = command.get_command(context, words[0])
            if inner is None:
                raise AssertionError(f"no such command: {typed}")
            command, words = inner, words[1:]
            context = click.Context(command, parent=context)
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, typed
        seen += 1
    assert seen > 15


def test_every_unit_and_option_of_the_installer_exists() -> None:
    help_text = subprocess.run(
        [ROOT / "scripts" / "install-service", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for typed in _typed(_page(PAGES[0])):
        for unit in re.findall(r"broadcastd[\w@-]*\.(?:service|socket|timer)", typed):
            assert (ROOT / "systemd" / unit.replace("@shop", "@")).exists(), typed
        if "scripts/install-service" in typed:
            for option in re.findall(r"--[\w-]+", typed):
                assert option in help_text, typed


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_that_it_points_at_exist(name: str) -> None:
    for target in re.findall(r"\]\(([\w.-]+\.md)\)", _page(name)):
        assert (DOCS / target).exists(), target


def _block(holds: str) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```$", _page(PAGES[0]), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if holds in block)
    return str(found).splitlines()


def _run(line: str, daemon: DaemonProcess) -> str:
    """One line of the page, its folders those of the test; systemctl is the test's own daemon."""
    command = line.removeprefix("sudo ")
    if command.startswith("systemctl stop"):
        daemon.stop()
        return ""
    if command.startswith("systemctl start"):
        if "broadcastd.service" in command:
            daemon.start()
        return ""
    command = command.replace("/var/lib/broadcastd/broadcastd.db", str(daemon.ledger))
    command = command.replace("/var/backups", str(daemon.folder)).replace("-o broadcastd -g broadcastd ", "")
    if command.startswith("broadcastd "):
        command = f"{sys.executable} -m {command} -c {daemon.settings}"
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_backup_is_made_and_put_back_as_written(tmp_path: Path) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    with counting_endpoint() as endpoint:
        site = sqlite_site(tmp_path / "site.db", 30)
        with daemon_process(tmp_path, endpoint.url, site) as daemon:
            waits = daemon.call({"content": "later", "key": "k1", "not_before": tomorrow})["job"]
            (line,) = _block("ledger backup /var/backups/broadcastd-today.db")
            assert "copied to" in _run(line, daemon)
            after = daemon.call({"content": "after", "key": "k2"})["job"]
            daemon.wait_done(after)
            for step in _block("ledger adopt"):
                said = _run(step, daemon)
                if step == "sudo broadcastd jobs":
                    assert daemon.call({"op": "info"})["ledger"] != "ok"
                    assert waits in said
                    assert after not in said
            assert daemon.call({"op": "info"})["ledger"] == "ok"
            assert daemon.job(waits)["state"] == "accepted"
            assert len(endpoint.received) == 30
