"""Gathers what the monitor judges: all looks at the same time, each bounded."""

import shutil
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from cryptography import x509

from broadcastd.errors import BroadcastdError, NoDaemonError
from broadcastd.monitor.bounded import begin
from broadcastd.monitor.standing import Traces, standing
from broadcastd.monitor.verdict import Certificate, Facts, Port, Standing
from broadcastd.refusals import ErrorCode

Ask = Callable[[Mapping[str, Any], float], Mapping[str, Any]]
"""One frame and how long it may take, in seconds; one reply. Raises NoDaemonError, and whatever it likes."""

CANARY_MORE_S = 3.0
"""Its parts have 10 s in the daemon: it is to say itself which of them had not enough."""
BUSY = (ErrorCode.BUSY.word, ErrorCode.DRAINING.word)


@dataclass(frozen=True, slots=True)
class Looks:
    """Where to look."""

    ask: Ask
    timeout_s: float
    traces: Traces
    ledger: Path | None
    """An embedded one."""
    certificates: Mapping[str, Path]
    """Key of the settings to file."""

    def gather(self) -> Facts:
        """Everything. Takes little more than `timeout_s`, whatever hangs."""
        pinging = self._begin({"op": "ping"})
        asking = {op: self._begin({"op": op}) for op in ("info", "canary")}
        disk = begin(self._free_mb, "disk")
        certificates = tuple(_certificate(about, path) for about, path in self.certificates.items())
        port, words = self.ping(self.timeout_s, pinging)
        is_there = port is Port.ANSWERS
        replies, missing = self._replies(asking) if is_there else ({}, {})
        return Facts(
            port,
            words,
            self._standing(port),
            replies.get("canary"),
            replies.get("info"),
            missing,
            _result(disk),
            certificates,
        )

    def _standing(self, port: Port) -> Standing:
        if port in (Port.ANSWERS, Port.FOREIGN):
            return Standing.UNKNOWN
        return standing(self.traces, listens=port is Port.SILENT)

    def ping(self, within_s: float, pinging: "Future[Mapping[str, Any]] | None" = None) -> tuple[Port, str]:
        """Whether it answers within so long, or `timeout_s`; if not, why."""
        try:
            reply = (pinging or self._begin({"op": "ping"})).result(min(within_s, self.timeout_s))
        except TimeoutError:
            return Port.SILENT, self._silent
        except NoDaemonError as error:
            port = _kind_of(error)
            return port, self._silent if port is Port.SILENT else str(error)
        except (BroadcastdError, OSError, ValueError) as error:
            return Port.FOREIGN, str(error)
        if reply["ok"] or reply.get("error") in BUSY:
            return Port.ANSWERS, ""
        return Port.FOREIGN, f"it refuses the monitor's ping: {reply.get('error')}: {reply.get('message')}"

    @property
    def _silent(self) -> str:
        return f"somebody listens, and does not answer within {self.timeout_s:g} s"

    def _begin(self, frame: Mapping[str, Any]) -> "Future[Mapping[str, Any]]":
        more_s = CANARY_MORE_S if frame["op"] == "canary" else 0.0
        return begin(lambda: self.ask(frame, self.timeout_s + more_s), frame["op"])

    def _replies(
        self, asking: "Mapping[str, Future[Mapping[str, Any]]]"
    ) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
        replies, missing = {}, {}
        for op, future in asking.items():
            try:
                reply = future.result(self.timeout_s + CANARY_MORE_S)
            except TimeoutError:
                missing[op] = "no answer in time"
            except (BroadcastdError, OSError, ValueError) as error:
                missing[op] = str(error)
            else:
                if reply["ok"]:
                    replies[op] = reply
                else:
                    missing[op] = f"{reply.get('error')}: {reply.get('message')}"
        return replies, missing

    def _free_mb(self) -> int | None:
        if self.ledger is None:
            return None
        return shutil.disk_usage(self.ledger.parent).free >> 20


def _kind_of(error: NoDaemonError) -> Port:
    cause = error.__cause__
    if isinstance(cause, ConnectionRefusedError):
        return Port.REFUSED
    if isinstance(cause, TimeoutError):
        return Port.SILENT
    # Closed without a word: by one that is just ending, say. What is no broadcastd, or no TLS, stays so.
    is_cut = isinstance(cause, OSError) or "hung up" in str(error)
    return Port.REFUSED if is_cut and not isinstance(cause, ssl.SSLError) else Port.FOREIGN


def _result(disk: "Future[int | None]") -> int | None:
    """A disk that does not answer by now is the ledger's trouble, which `info` tells."""
    try:
        return disk.result(1.0)
    except (OSError, TimeoutError):
        return None


def _certificate(about: str, path: Path) -> Certificate:
    try:
        pem = path.read_bytes()
        return Certificate(about, x509.load_pem_x509_certificate(pem).not_valid_after_utc.astimezone(UTC))
    except OSError as error:
        return Certificate(about, None, f"{path} cannot be read: {error.strerror}")
    except ValueError:
        return Certificate(about, None, f"{path} is no certificate")
