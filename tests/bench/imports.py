"""`python -m bench.imports`: what the imports of a daemon alone take, those of its databases included."""

import importlib
import json
import sys

from bench.processes import peak_mb

MODULES = (
    "broadcastd.cli.main",
    "broadcastd.cli.run",
    "broadcastd.settings_file",
    "broadcastd.background.core_files",
    "broadcastd.precautions",
    "broadcastd.log",
    "uvloop",
    "broadcastd.app",
    "asyncmy",
    "sqlalchemy.dialects.mysql.asyncmy",
    "sqlalchemy.dialects.sqlite",
)
"""In the order in which `broadcastd run` comes by them."""


def main() -> None:
    for name in MODULES:
        importlib.import_module(name)
    assert "pytest" not in sys.modules
    print(json.dumps({"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
