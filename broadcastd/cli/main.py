"""The entry point: the table of commands, and how errors end."""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import click
from click.shell_completion import CompletionItem

from broadcastd import __version__
from broadcastd.errors import BroadcastdError, NoDaemonError, SettingsError


class Exit(IntEnum):
    """Exit codes, the same for every command. 2 is click's, for wrong usage."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_DAEMON = 3
    BAD_SETTINGS = 4
    REFUSED = 5
    INTERRUPTED = 130


# Name to module and attribute; imported when called, so that none pays for another's libraries.
COMMANDS: Mapping[str, str] = {
    "run": "broadcastd.cli.run:run",
    "start": "broadcastd.cli.start:start",
    "stop": "broadcastd.cli.stop:stop",
    "restart": "broadcastd.cli.start:restart",
    "reload": "broadcastd.cli.reload:reload",
    "status": "broadcastd.cli.status:status",
    "send": "broadcastd.cli.send:send",
    "ping": "broadcastd.cli.ping:ping",
    "monitor": "broadcastd.cli.monitor:monitor",
    "info": "broadcastd.cli.ping:info",
    "jobs": "broadcastd.cli.jobs:jobs",
    "job": "broadcastd.cli.jobs:job",
    "watch": "broadcastd.cli.watch:watch",
    "pause": "broadcastd.cli.controls:pause",
    "resume": "broadcastd.cli.controls:resume",
    "cancel": "broadcastd.cli.controls:cancel",
    "retry": "broadcastd.cli.controls:retry",
    "rate": "broadcastd.cli.rate:rate",
    "drain": "broadcastd.cli.drain:drain",
    "quota": "broadcastd.cli.quota:quota",
    "who": "broadcastd.cli.who:who",
    "report": "broadcastd.cli.report:report",
    "audience": "broadcastd.cli.audience:audience",
    "config": "broadcastd.cli.config:config",
    "alert": "broadcastd.cli.alert:alert",
    "ledger": "broadcastd.cli.ledger:ledger",
    "sandbox": "broadcastd.cli.sandbox:sandbox",
    "doctor": "broadcastd.cli.doctor:doctor",
    "selftest": "broadcastd.cli.selftest:selftest",
    "demo": "broadcastd.cli.demo:demo",
    "completion": "broadcastd.cli.completion:completion",
}


class Commands(click.Group):
    """Looks commands up in `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one."""
        del ctx
        if name not in COMMANDS:
            return None
        _import_structlog_without_rich()
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names from the table alone: importing every command takes ten times as long."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name) for name in COMMANDS if name.startswith(incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run one. A reader who has seen enough (`broadcastd jobs | head`) is a failure to click only."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered goes nowhere: else Python complains of it at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(Exit.OK)
        return result


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="broadcastd")
def cli() -> None:
    """Send a paid post to every follower of a WeChat Official Account.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon answers, 4 settings cannot be used, 5 refused.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run a command. What a user can cause ends in one readable line on stderr, never in a traceback."""
    _spell_out_what_cannot_be_written()
    try:
        cli(arguments, prog_name="broadcastd", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(Exit.INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except SettingsError as error:
        _fail(error, Exit.BAD_SETTINGS)
    except NoDaemonError as error:
        _fail(error, Exit.NO_DAEMON)
    except BroadcastdError as error:
        _fail(error, Exit.FAILED)
    except BrokenPipeError:
        sys.exit(Exit.OK)  # click has dealt with it: the reader has seen enough
    except OSError as error:
        # What the output goes to is full, say. Nothing is left in the buffer, to fail once more at the end.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(error, Exit.FAILED)


def _import_structlog_without_rich() -> None:
    """Else structlog imports rich where it is installed, for tracebacks that `log` does not write: 4 MB."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # how Python is told that it is not to be imported
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]


def _spell_out_what_cannot_be_written() -> None:
    """On a terminal of another encoding, a text is shown with escapes rather than not at all."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(error: Exception, code: Exit) -> None:
    from broadcastd.log import escaped

    # Line by line: it may quote what came from outside.
    words = "\n".join(escaped(line) for line in str(error).split("\n"))
    click.echo(f"broadcastd: {words}", err=True)
    sys.exit(code)
