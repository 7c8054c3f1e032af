"""Asking before what cannot be taken back."""

import sys

import click

from broadcastd.cli.main import Exit
from broadcastd.cli.target import complain

yes_option = click.option("--yes", is_flag=True, help="Do not ask, not even on a terminal.")


def asks(yes: bool) -> bool:
    """Whether somebody is there to be asked: a script is not."""
    return not yes and sys.stdin.isatty()


def agree(question: str) -> None:
    """Go on after `y`; end the command after anything else. The question is no part of the output."""
    if not click.confirm(question, err=True):
        complain("nothing was changed")
        sys.exit(Exit.FAILED)
