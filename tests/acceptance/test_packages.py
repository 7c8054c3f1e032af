"""The packages: what they hold, the bounds of what they need, completion, the man page."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from bed.scripted import Run

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
BUILD = (
    "import sys; from setuptools import build_meta as b; d = sys.argv[1]; b.build_sdist(d); b.build_wheel(d)"
)


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPTS / name, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_wheels_and_sdists_hold_what_git_has(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "source" / name)
    (tmp_path / "dist").mkdir()
    for project in ("source", "source/client"):
        subprocess.run(
            [sys.executable, "-c", BUILD, tmp_path / "dist"],
            cwd=tmp_path / project, capture_output=True, timeout=120, check=True,
        )  # fmt: skip
    compared = script("compare_packages.py", tmp_path / "dist")
    assert compared.returncode == 0, compared.stdout + compared.stderr

    (wheel,) = (tmp_path / "dist").glob("broadcastd_client-*.whl")
    with zipfile.ZipFile(wheel, "a") as opened:
        opened.writestr("tests/stray.py", "")
    compared = script("compare_packages.py", tmp_path / "dist")
    assert compared.returncode == 1
    assert "holds tests/stray.py" in compared.stdout


def requirements() -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]
    parts = [setup["options"]["install_requires"], *(extras[name] for name in extras)]
    return [line.strip() for part in parts for line in part.splitlines() if line.strip()]


def test_every_requirement_has_bounds_or_a_reason() -> None:
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    reasons = re.findall(
        r"(\w[\w-]*) \(", text.partition("No upper bound:")[2].partition("\ninstall_requires")[0]
    )
    assert reasons
    for line in requirements():
        assert ">=" in line, line
        assert ("," in line and "<" in line) or re.split(r"[<>=\[]", line)[0] in reasons, line


def test_the_constraints_are_of_these_requirements() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    for line in setup["options"]["install_requires"].split():
        name = re.split(r"[<>=\[]", line)[0]
        assert name in exact, f"{name}: run scripts/constraints"
        least, _, most = line.partition(">=")[2].partition(",<")
        assert _numbers(least) <= _numbers(exact[name]), line
        assert not most or _numbers(exact[name]) < _numbers(most), line


def _numbers(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]


def test_the_man_page_is_up_to_date(tmp_path: Path) -> None:
    written = script("man.py", tmp_path / "page")
    assert written.returncode == 0, written.stderr
    page = (ROOT / "docs" / "broadcastd.1").read_text(encoding="utf-8")
    assert (tmp_path / "page").read_text(encoding="utf-8") == page, "run scripts/man"
    assert r'.SS "config init [OPTIONS] [PATH]"' in page


def test_version(run: Run) -> None:
    assert run("--version").out == f"broadcastd, version {version('broadcastd')}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_scripts(run: Run, shell: str) -> None:
    ran = run("completion", shell)
    assert ran.code == 0
    assert f"_BROADCASTD_COMPLETE={shell}_complete" in ran.out
    assert run("completion", "tcsh").code == 2


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("broadcastd pau", ["pause"]),
        ("broadcastd config in", ["init"]),
        ("broadcastd send --not-", ["--not-before", "--not-after"]),
        ("broadcastd --ver", ["--version"]),
    ],
)
def test_what_bash_is_offered(words: str, offered: list[str]) -> None:
    environment = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "broadcastd"],
        env={**environment, "_BROADCASTD_COMPLETE": "bash_complete"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == offered
    if words == "broadcastd pau":
        assert "pydantic" not in done.stderr, "completing a command's name imports the commands"


@pytest.mark.parametrize(
    ("found", "said", "code"),
    [
        ('{"name": "a", "skip_reason": "no"}', "skipped: none", 0),
        ('{"name": "a", "version": "1", "vulns": []}', "1 of 1 looked up, 0 known holes", 0),
        (
            '{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}',
            "a 1: X-1, mended in 2",
            1,
        ),
    ],
)
def test_what_an_audit_comes_to(tmp_path: Path, found: str, said: str, code: int) -> None:
    (tmp_path / "audit.json").write_text(f'{{"dependencies": [{found}]}}')
    verdict = script("audit_verdict.py", tmp_path / "audit.json")
    assert verdict.returncode == code
    assert said in verdict.stdout


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_release_check() -> None:
    done = subprocess.run(
        [SCRIPTS / "release-check"], capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fit for release" in done.stdout


def test_a_daemon_carries_nothing_that_it_does_not_use() -> None:
    code = (
        "import sys; from broadcastd.cli.main import cli; cli.get_command(None, 'run')\n"
        "import broadcastd.app, sqlalchemy.dialects.mysql.asyncmy, sqlalchemy.dialects.sqlite.aiosqlite\n"
        "rare = {'rich', 'sqlalchemy.orm', 'alembic', 'apprise', 'prometheus_client', 'defusedxml'}\n"
        "print(*sorted(rare & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [], "megabytes that each daemon would have"
