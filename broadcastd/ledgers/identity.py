"""Whose ledger is it: told by the ledger itself and by a small file outside its folder.

A ledger that was copied to another machine or folder, or restored from a backup, must not send again what its
original has sent since. So both sides hold the machine, the path, how often a daemon was started on it, and
how often one has noted that it works (*beat*): every few seconds, and with each commit of marks. The ledger
is written first, the file after it, and only then is anybody asked: with the true ledger, the file is never
ahead, and behind a copy in whose absence somebody was asked, it always is.
"""

import contextlib
import hashlib
import os
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from broadcastd.errors import LedgerUnavailableError

log = structlog.get_logger()

MACHINE_ID = Path("/etc/machine-id")
MISSING = "its file in ledger.identity_dir is missing or damaged"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a ledger is."""

    machine: str
    path: str
    """Of its file, resolved; or a database's address."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a ledger the one that it was."""

    ledger: str
    """A name that it was given once, and is given anew when it is adopted."""
    place: Place
    starts: int
    beat: int = 0

    @classmethod
    def new(cls, place: Place, starts: int) -> "Identity":
        """Of a ledger that is one of its own from now on."""
        return cls(secrets.token_hex(8), place, starts)


def this_machine() -> str:
    """A name of this machine that no copy of a file takes along; never shown."""
    try:
        name = MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    # machine-id(5) asks not to hand the id itself around.
    return hashlib.sha256(f"broadcastd {name}".encode()).hexdigest()[:32]


def default_folder() -> Path:
    """Where the files are when `ledger.identity_dir` does not say."""
    if os.geteuid() == 0:
        return Path("/var/lib/broadcastd-identity")
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "broadcastd-identity"


def why_a_copy(own: Identity, place: Place, known: Identity | None) -> str:
    """Why the ledger `own`, found at `place`, is not the one that the file `known` speaks of; else empty."""
    if own.place != place:
        moved = own.place.machine == place.machine
        return f"it was last used as {own.place.path}" if moved else "it was last used on another machine"
    if known is None:
        # At beat 1 it was made just now, and the process died before it wrote the file.
        return "" if own.beat <= 1 else MISSING
    if known.place != place:
        return f"its file in ledger.identity_dir is about {known.place.path}"
    if own.starts < known.starts or own.beat < known.beat:
        return "broadcastd has worked on since this state of it was saved"
    return ""


class IdentityFile:
    """One ledger's file, written whole, then renamed: it is never half there. Beside it a small one, with the
    beat of the last marks: that one is overwritten many times a second."""

    def __init__(self, folder: Path, ledger: str) -> None:
        self._path = folder / f"{ledger}.json"
        self._beat = folder / f"{ledger}.beat"

    def read(self) -> Identity | None:
        """What it says; None when there is none. Raises LedgerUnavailableError."""
        try:
            value: dict[str, Any] = orjson.loads(self._path.read_bytes())
            beat = max(value["beat"], self._last_beat())
            return Identity(value["ledger"], Place(**value["place"]), value["starts"], beat)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            log.warning("identity_damaged", path=str(self._path))
            return None  # as good as missing: it is held, and `ledger adopt` makes a new one
        except OSError as error:
            raise LedgerUnavailableError(
                f"{self._path} cannot be read ({error.strerror}): it tells this ledger from a copy"
            ) from error

    def _last_beat(self) -> int:
        try:
            return int(self._beat.read_bytes() or b"0")
        except FileNotFoundError:
            return 0

    def note(self, beat: int) -> None:
        """Note a beat. It survives a kill; a power cut may take the last few of them.

        A disk that fails is told by the next `write`: marks that are committed already must not fail here.
        """
        with contextlib.suppress(OSError):
            # In place and without fsync: microseconds, so it may run in the event loop.
            file = os.open(self._beat, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(file, b"%020d" % beat, 0)
            finally:
                os.close(file)

    def write(self, identity: Identity) -> None:
        """Raises LedgerUnavailableError."""
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                file.write(orjson.dumps(asdict(identity)))
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave an empty file, and every job held
            fresh.replace(self._path)
        except OSError as error:
            raise LedgerUnavailableError(
                f"{self._path} cannot be written ({error.strerror}): it tells this ledger from a copy;"
                " set ledger.identity_dir"
            ) from error


def later(identity: Identity, beat: int) -> Identity:
    """The same ledger, some time later."""
    return replace(identity, beat=beat)
