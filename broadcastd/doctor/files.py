"""The settings, who may read them, and where the daemon writes."""

import asyncio
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broadcastd import secret_files, settings_file
from broadcastd.doctor.finding import Finding, Findings, fail, ok, warn
from broadcastd.doctor.subject import Subject, user_name
from broadcastd.errors import SettingsError
from broadcastd.precautions import unusable_tls, weak
from broadcastd.settings import IDENTITY_OFF, Settings
from broadcastd.settings_review import cautions, untouched
from broadcastd.tls import certificate_ends_at

READ, WRITE_INTO = 4, 3
"""Bits of a mode: to read a file; to make files in a folder."""
WRITE = 6
STARTS_OWN = ("log", "pid file")
"""Their folders, where they are missing, are made by `broadcastd start`."""
OF_ROOT = Path("/var/lib/broadcastd-identity")
"""As `ledgers.identity.default_folder`, which knows this process only."""


async def settings(subject: Subject) -> Findings:
    """Valid, filled in, and nothing in it that WeChat will change."""
    where = str(subject.path or "the environment")
    if subject.settings is None:
        return [_unusable(subject)]
    findings = [
        fail(f"{where}: {key} is still as `config init` wrote it", f"set it in {where}")
        for key in untouched(subject.settings)
    ]
    findings += [
        warn(f"{where}: {what}", "see README.md, The settings") for what in cautions(subject.settings)
    ]
    findings += await asyncio.to_thread(_precautions, subject.settings, where)
    return findings or [ok(f"{where}: valid; accounts: {', '.join(subject.settings.accounts)}")]


def _precautions(settings: Settings, where: str) -> Findings:
    if wrong := unusable_tls(settings):
        return [
            fail(
                " ".join(one.split()),
                "put a certificate and its key there: a running daemon takes them by itself, and goes on with"
                " those it had until then",
            )
            for one in wrong
        ]
    ends = [
        ok(f"{section}.tls_cert: {port.tls_cert} is good until {certificate_ends_at(port.tls_cert):%Y-%m-%d}")
        for section, port in (("server", settings.server), ("http", settings.http))
        if port.tls_cert
    ]
    return [*(warn(f"{where}: {one}", "see docs/security.md") for one in weak(settings)), *ends]


def _unusable(subject: Subject) -> Finding:
    if subject.path is None:
        places = ", ".join(str(place) for place in settings_file.PLACES)
        return fail(
            f"no settings file: looked for {places} and ${settings_file.FILE_VARIABLE}",
            "broadcastd config init", "or name it: broadcastd doctor -c FILE",
        )  # fmt: skip
    words = " ".join(subject.trouble.split())
    if "Permission denied" in words:
        return fail(words, f"ask as root or as the daemon's user: sudo broadcastd doctor -c {subject.path}")
    if not subject.path.exists():
        return fail(words, f"broadcastd config init {subject.path}")
    return fail(words, f"correct it in {subject.path}, then: broadcastd config check -c {subject.path}")


@dataclass(frozen=True, slots=True)
class Person:
    """A user, as the kernel sees one."""

    uid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, uid: int) -> "Person":
        """With all groups that the machine knows of."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(uid, frozenset())
        return cls(uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))

    def may(self, what: int, there: os.stat_result) -> bool:
        """Whether the mode lets them; `what` as one digit of it."""
        if self.uid == 0:
            return True
        mode = stat.S_IMODE(there.st_mode)
        if there.st_uid == self.uid:
            mode >>= 6
        elif there.st_gid in self.groups:
            mode >>= 3
        return mode & what == what


def judge_secret(
    path: Path, there: os.stat_result, group_is_private: bool, *, can_be_reached: bool = True
) -> Finding | None:
    """A file that holds secrets, or openids; None: it is well kept. `can_be_reached`: by everybody."""
    mode = stat.S_IMODE(there.st_mode)
    if mode & 0o007 and can_be_reached:
        return fail(f"{path} is open to everybody on this machine (mode {mode:04o})", f"chmod o= {path}")
    if mode & 0o020:
        return fail(f"{path} can be changed by its group (mode {mode:04o})", f"chmod g-w {path}")
    if mode & 0o050 and not group_is_private:
        seen = f"{path} can be read by all of the group {_group_name(there.st_gid)} (mode {mode:04o})"
        return warn(seen, f"unless that is meant: chmod g= {path}")
    return None


def is_private_group(gid: int, owner: int) -> bool:
    """Whether at most one user beside root and the file's owner is in it: the daemon's, say."""
    try:
        named = {pwd.getpwnam(name).pw_uid for name in grp.getgrgid(gid).gr_mem}
    except KeyError:
        named = set()
    mine = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == gid}
    return len((named | mine) - {0, owner}) <= 1


async def permissions(subject: Subject) -> Findings:
    """Who may read what is secret; the daemon must, nobody else."""
    daemon = Person.of(await subject.user_id()) if subject.settings is not None else Person.of(os.geteuid())
    return await asyncio.to_thread(lambda: _permissions(subject, daemon))


def _permissions(subject: Subject, daemon: Person) -> Findings:
    findings, looked_at = [], 0
    for path in dict.fromkeys(_secret_files(subject)):
        try:
            there = path.stat()
        except OSError:
            continue  # a missing one is the settings' trouble, or the ledger's
        looked_at += 1
        found = judge_secret(
            path,
            there,
            is_private_group(there.st_gid, there.st_uid),
            can_be_reached=secret_files.can_be_reached(path),
        )
        if found is None and not daemon.may(READ, there):
            name = user_name(daemon.uid)
            found = fail(f"{path} cannot be read by {name}, the daemon's user", f"chown {name} {path}")
        findings.append(found)
    return [one for one in findings if one] or [ok(f"well kept: {looked_at} of those that hold secrets")]


def _secret_files(subject: Subject) -> Iterator[Path]:
    if subject.path is not None:
        yield subject.path
    try:
        yield from settings_file.secrets_of(subject.path).values()
    except SettingsError:
        return
    if subject.settings is None:
        return
    for port in (subject.settings.server, subject.settings.http):
        if port.tls_key:
            yield Path(port.tls_key)
    if subject.ledger_file is not None:
        yield subject.ledger_file


async def folders(subject: Subject) -> Findings:
    """Whether the daemon can write where it must."""
    daemon = Person.of(await subject.user_id())
    identity = identity_folder(subject, daemon.uid, await subject.daemon_pid())
    return await asyncio.to_thread(lambda: _folders(subject, daemon, identity))


def _folders(subject: Subject, daemon: Person, identity: tuple[Path, bool] | None) -> Findings:
    findings: list[Finding] = []
    written = dict(_written_to(subject))
    if identity is not None and identity[1]:
        written["identity"] = identity[0]
    for what, folder in written.items():
        try:
            findings += judge_folder(what, folder, daemon)
        except PermissionError:
            me = user_name(os.geteuid())
            findings.append(warn(f"{what}: {folder} is closed to {me}, who asks", "ask as root"))
    file = subject.ledger_file
    name = user_name(daemon.uid)
    if file is not None and file.exists() and not daemon.may(WRITE, file.stat()):
        words = f"{file} cannot be written by {name}, the daemon's user"
        findings.append(fail(words, f"chown {name} {file}*"))
    there = ", ".join(f"{what} {folder}" for what, folder in written.items())
    return findings or [ok(f"can be written by {name}: {there or 'nothing to'}")]


def judge_folder(what: str, folder: Path, daemon: Person) -> Findings:
    """Whether the daemon can make files in it, or make it first where it does that itself."""
    name = user_name(daemon.uid)
    make = f"install -d -m 700 -o {name} {folder}"
    if not folder.exists():
        parent = next(one for one in folder.parents if one.exists())
        if what == "identity" and daemon.may(WRITE_INTO, parent.stat()):
            return []
        if what in STARTS_OWN and parent == folder.parent:
            return []  # `broadcastd start` makes it, and gives it to its user
        return [fail(f"{what}: there is no folder {folder}", make)]
    if not folder.is_dir():
        return [fail(f"{what}: {folder} is no folder", f"mv {folder} {folder}.old; {make}")]
    if not daemon.may(WRITE_INTO, folder.stat()):
        return [fail(f"{what}: {name}, the daemon's user, cannot write into {folder}", make)]
    return []


def _written_to(subject: Subject) -> Iterator[tuple[str, Path]]:
    if subject.ledger_file is not None:
        yield "ledger", subject.ledger_file.parent
    background = subject.whole.background
    # Where `broadcastd start` has never been, and nothing says as whom, systemd runs the daemon: neither is
    # needed.
    for what, name in zip(STARTS_OWN, (background.log_file, background.pid_file), strict=True):
        file = Path(name)
        if file.exists() or background.user:
            yield what, file.parent


def identity_folder(subject: Subject, uid: int, pid: int | None) -> tuple[Path, bool] | None:
    """Where a daemon of this user keeps what tells the ledger from its copies, and whether that is certain.

    None: nowhere. `pid`: of the daemon, if it runs. Its environment may say where its state is.
    """
    given = subject.whole.ledger.identity_dir
    if given == IDENTITY_OFF:
        return None
    if given:
        return Path(given), True
    if uid == 0:
        return OF_ROOT, True
    environment = _environment(pid)
    if environment is None and uid == os.geteuid():
        environment = dict(os.environ)
    try:
        home = pwd.getpwuid(uid).pw_dir
    except KeyError:
        home = "/"
    known = environment or {}
    state = known.get("XDG_STATE_HOME") or Path(known.get("HOME", home)) / ".local/state"
    return Path(state) / "broadcastd-identity", environment is not None


def _environment(pid: int | None) -> dict[str, str] | None:
    try:
        text = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return dict(one.split("=", 1) for one in text.split("\0") if "=" in one)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
