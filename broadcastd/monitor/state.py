"""What the monitor knows from one run to the next: a JSON file, replaced whole, and a lock beside it."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from broadcastd.errors import BroadcastdError
from broadcastd.monitor.restarts import Restarts


class StateError(BroadcastdError):
    """The monitor's state cannot be kept."""


class OtherRunError(BroadcastdError):
    """Another run of the monitor is still at it."""


@dataclass(slots=True)
class State:
    """All of it."""

    policy: dict[str, Any] = field(default_factory=dict)
    """`alerts.policy.Policy.state`."""
    on: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The troubles of the last look, by kind and what they are about: `check`, `since_s`."""
    unsent: list[dict[str, Any]] = field(default_factory=list)
    """Alerts that no or not every address took."""
    restarts: Restarts = field(default_factory=Restarts)
    unanswered_s: float | None = None
    """Since when it does not answer (seconds since 1970)."""


class StateFile:
    """The state of one daemon's monitor, of which there may be several on a machine."""

    def __init__(self, folder: Path, settings: str) -> None:
        """`settings`: the settings file, by which daemons differ."""
        name = f"monitor-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
        self._folder = folder
        self._path = folder / f"{name}.json"
        self._lock = folder / f"{name}.lock"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time. Raises OtherRunError, and StateError when there is no place for it."""
        try:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            file = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"{self._lock} cannot be opened: {error.strerror} (monitor.state_dir)"
            ) from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OtherRunError from None
            yield
        finally:
            os.close(file)

    def read(self) -> State:
        """What the last run has left. One that is damaged is as good as none."""
        try:
            kept = orjson.loads(self._path.read_bytes())
            return State(**{**kept, "restarts": Restarts(**kept["restarts"])})
        except FileNotFoundError:
            return State()
        except (ValueError, KeyError, TypeError):
            return State()
        except OSError as error:
            raise StateError(f"{self._path} cannot be read: {error.strerror} (monitor.state_dir)") from error

    def write(self, state: State) -> None:
        """Raises StateError."""
        fresh = self._path.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                file.write(orjson.dumps(asdict(state)))
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave an empty file, and an alert more
            fresh.replace(self._path)
        except OSError as error:
            raise StateError(f"{fresh} cannot be written: {error.strerror} (monitor.state_dir)") from error
