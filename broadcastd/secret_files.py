"""Files that hold a secret: who else on this machine may read or change them."""

import os
import stat
from pathlib import Path

CREDENTIALS = "$CREDENTIALS_DIRECTORY"
"""Where systemd puts what LoadCredential= names; it sets this variable."""


def located(name: str, base: Path) -> Path:
    """The file that a `*_file` key names: relative to the settings file, or one of systemd's credentials.

    Raises ValueError when there are no credentials.
    """
    if not name.startswith(f"{CREDENTIALS}/"):
        return base / name
    folder = os.environ.get(CREDENTIALS[1:])
    if not folder:
        raise ValueError(f"{CREDENTIALS} is not set: systemd sets it where a unit has LoadCredential=")
    return Path(folder) / name.removeprefix(f"{CREDENTIALS}/")


def read(path: Path) -> str:
    """The secret, without white space around it.

    Raises OSError, UnicodeDecodeError, and PermissionError, with the words for it, when others on this
    machine can read it or change it: then it is no secret.
    """
    if path.is_file() and (what := open_to_others(path)):
        raise PermissionError(
            0, f"others on this machine may {what} it; `chmod o-rwx {path}`, and change what was secret"
        )
    return path.read_text(encoding="utf-8").strip()


def open_to_others(path: Path) -> str:
    """`read`, `change`, `read and change`, or nothing: what any user of this machine can do with a file.

    Nothing in a folder that others cannot enter.
    """
    mode = path.stat().st_mode
    verbs = [verb for bit, verb in ((stat.S_IROTH, "read"), (stat.S_IWOTH, "change")) if mode & bit]
    return " and ".join(verbs) if can_be_reached(path) else ""


def can_be_reached(path: Path) -> bool:
    """Whether any user of this machine can enter all folders of a file."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def foreign_owner(path: Path) -> str:
    """`uid 1000` when a file belongs to neither root nor this process's user; else nothing."""
    owner = path.stat().st_uid
    return "" if owner in (0, os.geteuid()) else f"uid {owner}"
