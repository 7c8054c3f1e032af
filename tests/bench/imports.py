"""`python -m bench.imports`: what the imports of a daemon alone take, those of its databases included."""

import importlib
import json
import sys

import click

from bench.processes import peak_mb
from broadcastd.cli.main import cli

MODULES = (
    "broadcastd.settings_file",
    "broadcastd.background.core_files",
    "broadcastd.precautions",
    "uvloop",
    "broadcastd.app",
    "asyncmy",
    "sqlalchemy.dialects.mysql.asyncmy",
    "sqlalchemy.dialects.sqlite",
)
"""In the order in which `broadcastd run` comes by them."""


def main() -> None:
    cli.get_command(click.Context(cli), "run")  # as the command does: without rich
    for name in MODULES:
        importlib.import_module(name)
    assert not {"pytest", "rich"} & set(sys.modules)
    print(json.dumps({"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
