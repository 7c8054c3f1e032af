"""Fixtures of the test bed, for all kinds of tests."""

import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import hypothesis
import pytest
import structlog
from bed.daemon import DaemonProcess
from bed.mariadb import PrivateMariaDb, folder_of_servers, private_mariadb
from bed.scripted import Run, run_command
from bed.warm import warm_starts
from structlog._config import BoundLoggerLazyProxy

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the whole: hundreds of kills, minutes of fuzzing")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    for item in items:
        if "long" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="only with --long"))


@pytest.fixture(scope="session")
def mariadb() -> Iterator[PrivateMariaDb]:
    """A private MariaDB. Its folder is short: a socket's path may have 107 bytes."""
    with (
        tempfile.TemporaryDirectory(prefix="bd-", dir=folder_of_servers()) as folder,
        private_mariadb(Path(folder)) as server,
    ):
        yield server


@pytest.fixture(scope="session", autouse=True)
def daemons_start_warm() -> Iterator[None]:
    """Daemons that are only started to be there do without the imports."""
    with warm_starts() as DaemonProcess.warm:
        yield
    DaemonProcess.warm = None


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A command that runs within a test sets up the log of the whole process, for loggers in use for good."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        for name, module in list(sys.modules.items()):
            if name.startswith("broadcastd") and isinstance(module.__dict__.get("log"), BoundLoggerLazyProxy):
                module.__dict__["log"].__dict__.pop("bind", None)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, in a folder without settings; nobody is there to be asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return partial(run_command, capsys)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have somebody sit at a terminal, who types this."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    return lambda text: monkeypatch.setattr(sys, "stdin", Terminal(text))


@pytest.fixture
def long_run(request: pytest.FixtureRequest) -> bool:
    """Whether this is `scripts/test --long`."""
    return bool(request.config.getoption("--long"))
