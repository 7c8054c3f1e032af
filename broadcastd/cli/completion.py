"""`broadcastd completion`: what a shell needs to complete this program's commands and options."""

import click
from click.shell_completion import get_completion_class

from broadcastd.errors import BroadcastdError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    For bash, say: broadcastd completion bash >~/.local/share/bash-completion/completions/broadcastd
    """
    there = get_completion_class(shell)
    if there is None:
        raise BroadcastdError(f"this version of click knows no completion for {shell}")
    root = click.get_current_context().find_root().command
    click.echo(there(root, {}, "broadcastd", "_BROADCASTD_COMPLETE").source())
