"""Compares the wheels and source distributions in a folder with what git tracks: nothing missing, or more.

    compare_packages.py DIST

Prints what differs; exit code 1 if anything does. Both the daemon's and the client library's must be there.
"""

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = (".ci/", ".gitignore")


def tracked(folder: str = "") -> set[str]:
    """Paths below a folder of the checkout, relative to it."""
    shown = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT / folder, capture_output=True, text=True, check=True
    )
    return {name for name in shown.stdout.split("\0") if name and not name.startswith(NOT_SHIPPED)}


def daemon_wheel(version: str) -> set[str]:
    """What the daemon's wheel holds."""
    share = f"broadcastd-{version}.data/data/share"
    units = {f"{share}/broadcastd/systemd/{name}" for name in tracked("systemd")}
    code = {f"broadcastd/{name}" for name in tracked("broadcastd")}
    return code | units | {f"{share}/man/man1/broadcastd.1"}


def differences(dist: Path) -> Iterator[str]:
    """One line for each file that is missing or too much."""
    for name, subfolder in (("broadcastd", ""), ("broadcastd_client", "client")):
        wheel, sdist = one(dist, f"{name}-*.whl"), one(dist, f"{name}-*.tar.gz")
        if wheel is None or sdist is None:
            yield f"{name}: no wheel or no sdist in {dist}"
            continue
        version = wheel.name.split("-")[1]
        wanted = (
            daemon_wheel(version)
            if not subfolder
            else {f"{name}/{file}" for file in tracked(f"client/{name}")}
        )
        with zipfile.ZipFile(wheel) as opened:
            there = {
                file for file in opened.namelist() if ".dist-info/" not in file and not file.endswith("/")
            }
        yield from (f"{wheel.name} lacks {file}" for file in sorted(wanted - there))
        yield from (f"{wheel.name} holds {file}, which git does not have" for file in sorted(there - wanted))
        with tarfile.open(sdist) as archive:
            there = {member.name.partition("/")[2] for member in archive if member.isfile()}
        source = (
            tracked()
            if not subfolder
            else {file for file in tracked("client") if not file.endswith("ruff.toml")}
        )
        source = {file for file in source if subfolder == "" or not file.startswith("tests/")}
        yield from (f"{sdist.name} lacks {file}" for file in sorted(source - there))


def one(dist: Path, pattern: str) -> Path | None:
    """The only file of this kind."""
    found = list(dist.glob(pattern))
    return found[0] if len(found) == 1 else None


if __name__ == "__main__":
    lines = list(differences(Path(sys.argv[1])))
    print("\n".join(lines) or "the packages hold what git has, and nothing else")
    sys.exit(bool(lines))
