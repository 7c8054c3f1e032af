"""The ledger: which it is, whether it is the true one, its disk, its pages, its server."""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from broadcastd.doctor.files import identity_folder
from broadcastd.doctor.finding import Finding, Findings, Verdict, fail, ok, skipped, warn
from broadcastd.doctor.subject import Line, Subject
from broadcastd.errors import LedgerUnavailableError
from broadcastd.ledgers import inspection, mysql
from broadcastd.ledgers.identity import MISSING, Place, this_machine
from broadcastd.ledgers.inspection import Seen
from broadcastd.ledgers.migration import HEAD, Age
from broadcastd.server_settings import LOOPBACK
from broadcastd.settings import IDENTITY_OFF

MB = 1024 * 1024
CHECK_S = 6.0
"""A second reads some hundred MB."""
PACKET_LEAST = 4 * MB
"""A commit of many outcomes is one statement; 16 MB is the default of MariaDB, 64 MB of MySQL."""
NETWORK_TYPES = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "fuse.sshfs", "afs", "lustre", "ncpfs")
MEMORY_TYPES = ("tmpfs", "ramfs")
MOUNTS = Path("/proc/self/mountinfo")
_UNREADABLE = skipped("it cannot be read: see ledger")


async def ledger(subject: Subject) -> Findings:
    """Which one, in which version."""
    file = subject.ledger_file
    try:
        return [await (_of_file(subject, file) if file is not None else _of_server(subject))]
    except LedgerUnavailableError as error:
        return [fail(str(error), _by_hand(subject.whole.ledger.url.get_secret_value(), file))]


async def _of_file(subject: Subject, file: Path) -> Finding:
    seen = await subject.ledger_seen()
    holder, size = inspection.lock_holder(file), _size(file)
    where = f"{file} ({size / MB:,.1f} MB)" if size else str(file)
    user = f"process {holder}" if holder else await _unseen(subject)
    return judge_version(where, seen, upgrades_itself=True, user=user)


async def _of_server(subject: Subject) -> Finding:
    found = await subject.ledger_server()
    address = mysql.address(subject.whole.ledger.url.get_secret_value())
    where = f"{address} ({found.variables.get('version', 'of no version')})"
    user = "a daemon" if found.in_use else await _unseen(subject)
    return judge_version(where, found.seen, upgrades_itself=False, user=user)


async def _unseen(subject: Subject) -> str | None:
    """Who works on it, where its lock does not tell: a server takes the lock from a daemon that hangs."""
    return "a daemon that hangs (see port)" if (await subject.daemon()).line is Line.HANGS else None


def _by_hand(url: str, file: Path | None) -> str:
    if file is not None:
        return f"look at it: ls -l {file}*; sqlite3 {file} 'PRAGMA quick_check'"
    parts = sa.make_url(url)
    there = f"-h {parts.host or 'localhost'} -P {parts.port or 3306}"
    return f"try it by hand: mariadb {there} -u {parts.username or 'USER'} -p {parts.database}"


def judge_version(where: str, seen: Seen, *, upgrades_itself: bool, user: str | None) -> Finding:
    """`user`: who works on it just now."""
    version = seen.found.version
    match seen.found.age:
        case Age.NEW:
            return ok(f"{where}: not there yet; the first start makes it")
        case Age.NEWER:
            return fail(
                f"{where} has version {version}, and this broadcastd works with {HEAD}",
                "install the newer broadcastd again, or restore the backup that its upgrade made",
            )
        case Age.OLD if upgrades_itself:
            return warn(
                f"{where} has version {version}: the next start upgrades it to {HEAD}, after a backup",
                "restart the daemon when there is time for it",
            )
        case Age.OLD:
            return fail(
                f"{where} has version {version}, and this broadcastd works with {HEAD}",
                "stop every broadcastd that uses it, make a backup, then: broadcastd ledger upgrade",
            )
    return ok(f"{where}: version {version}, {f'{user} works on it' if user else 'nobody works on it'}")


async def ledger_copy(subject: Subject) -> Findings:
    """Whether the daemon holds everything for fear of sending twice, or would at its next start."""
    if subject.whole.ledger.identity_dir == IDENTITY_OFF:
        return [
            warn(
                'ledger.identity_dir = "off": a copied or restored ledger would send again what was sent',
                "take that line out of the settings",
            )
        ]
    daemon = await subject.daemon()
    if daemon.line is Line.ANSWERS:
        words = str(daemon.reply["ledger"])
        return [judge_copy(words if "is a copy" in words else "")]
    if daemon.line is not Line.SILENT:
        return [skipped("only the daemon could say, and it does not: see port")]
    return [await _copy_at_rest(subject)]


async def _copy_at_rest(subject: Subject) -> Finding:
    file = subject.ledger_file
    try:
        seen = await subject.ledger_seen()
    except LedgerUnavailableError:
        return _UNREADABLE
    if seen.identity is None:
        return skipped("no daemon has worked on it yet")
    identity = identity_folder(subject, await subject.user_id(), None)
    if identity is None:
        return skipped("ledger.identity_dir is off")
    folder, is_certain = identity
    url = subject.whole.ledger.url.get_secret_value()
    place = Place(this_machine(), str(file) if file is not None else mysql.address(url))
    try:
        why = await asyncio.to_thread(inspection.copied, seen.identity, place, folder)
    except LedgerUnavailableError as error:
        return skipped(str(error))
    if why == MISSING and not is_certain:
        return skipped(f"only the daemon's user can tell: its file is not in {folder}, or that is closed")
    return judge_copy(why)


def judge_copy(why: str) -> Finding:
    """`why`: it is one, or was restored; empty: it is the true one."""
    if not why:
        return ok("it is the one that it was")
    return fail(
        f"it is a copy, or was restored, and its jobs are held: {why}",
        "see that no daemon works on its original, then, with the daemon running: broadcastd ledger adopt",
    )


async def ledger_disk(subject: Subject) -> Findings:
    """Room, and what kind of disk."""
    file = subject.ledger_file
    if file is None:
        return [skipped("the ledger is in a database server, which does not tell")]
    folder = next(one for one in file.parents if one.exists())
    usage = await asyncio.to_thread(lambda: shutil.disk_usage(folder))
    mounts = await asyncio.to_thread(lambda: MOUNTS.read_text(encoding="utf-8"))
    kind = file_system(folder, mounts)
    room = judge_room(folder, usage.free, subject.whole.ledger.reserve_mb)
    found = [*([] if room.verdict is Verdict.OK else [room]), *judge_kind(folder, kind)]
    return found or [room]


def judge_room(folder: Path, free: int, reserve_mb: int) -> Finding:
    """`free` in bytes."""
    mend = f"make room: du -xh {folder} | sort -h | tail; or move the ledger; or lower ledger.keep_days"
    if free < reserve_mb * MB:
        return fail(
            f"{folder} has {free // MB:,} MB left, less than ledger.reserve_mb = {reserve_mb}: no new"
            " job is accepted",
            mend,
        )
    if free < 5 * max(1, reserve_mb) * MB:
        return warn(
            f"{folder} has {free // MB:,} MB left; below ledger.reserve_mb = {reserve_mb} no new job is"
            " accepted",
            mend,
        )
    return ok(f"{folder} has {free // MB:,} MB left")


def judge_kind(folder: Path, kind: str) -> Findings:
    """`kind`: the file system's, as /proc/self/mountinfo has it."""
    move = "move it to a local disk: stop, mv it, set ledger.url, start, broadcastd ledger adopt"
    if kind.startswith(NETWORK_TYPES):
        return [
            warn(
                f"{folder} is on a network file system ({kind}): SQLite's locks, and what is on disk after"
                " a crash, are not safe there",
                move,
            )
        ]
    if kind in MEMORY_TYPES:
        return [warn(f"{folder} is in memory ({kind}): it is gone with the machine's next start", move)]
    return []


def file_system(folder: Path, mountinfo: str) -> str:
    """The type of what is mounted there; empty: not to be seen."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        mounted = Path(fields.split(" ")[4].replace("\\040", " "))
        # Of two on one place the later one is on top.
        if folder.resolve().is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), rest.split(" ")[0]
    return kind


async def ledger_pages(subject: Subject) -> Findings:
    """Whether the file is sound."""
    file = subject.ledger_file
    if file is None:
        return [skipped("the ledger is in a database server, which sees to that")]
    if not file.exists():
        return [skipped("there is no ledger yet")]
    return [judge_pages(file, await asyncio.to_thread(lambda: inspection.quick_check(file, CHECK_S)))]


def judge_pages(file: Path, found: list[str] | None) -> Finding:
    """`found`: as of `quick_check`."""
    if found is None:
        return skipped(
            f"not through with it in {CHECK_S:g} s; at leisure: sqlite3 {file} 'PRAGMA quick_check'"
        )
    if not found:
        return ok("SQLite finds it sound")
    return fail(
        f"the file is damaged: {'; '.join(found)[:300]}",
        f"stop the daemon, keep a copy of {file}*, look after the disk (dmesg), then restore the last"
        f" backup or: sqlite3 {file} .recover | sqlite3 {file}.new",
    )


async def ledger_server(subject: Subject) -> Findings:
    """Whether its server keeps what it is given."""
    if subject.ledger_file is not None:
        return [skipped("the ledger is a file")]
    url = subject.whole.ledger.url.get_secret_value()
    try:
        found = await subject.ledger_server()
    except LedgerUnavailableError:
        return [_UNREADABLE]
    host = sa.make_url(url).host
    remote = host is not None and host not in LOOPBACK
    return judge_server(found.variables, found.cipher, remote=remote)


def judge_server(variables: Mapping[str, str], cipher: str, *, remote: bool) -> Findings:
    """`variables`: the server's global ones."""
    found = []
    flush = variables.get("innodb_flush_log_at_trx_commit", "1")
    if flush != "1":
        found.append(
            fail(
                f"innodb_flush_log_at_trx_commit = {flush}: a crash of its machine loses jobs that were"
                " answered ok",
                "SET GLOBAL innodb_flush_log_at_trx_commit = 1; and in the server's my.cnf",
            )
        )
    if variables.get("log_bin") in ("ON", "1") and variables.get("sync_binlog", "1") != "1":
        found.append(
            warn(
                f"sync_binlog = {variables['sync_binlog']}: after a crash the server and its replicas may"
                " differ",
                "SET GLOBAL sync_binlog = 1; and in the server's my.cnf",
            )
        )
    packet = int(variables.get("max_allowed_packet", PACKET_LEAST))
    if packet < PACKET_LEAST:
        found.append(
            fail(
                f"max_allowed_packet = {packet:,}: a large commit does not fit",
                "SET GLOBAL max_allowed_packet = 16777216; and in the server's my.cnf",
            )
        )
    if variables.get("read_only") in ("ON", "1"):
        found.append(fail("read_only = ON: it is a replica", "set ledger.url to the primary server"))
    if remote and not cipher:
        found.append(
            warn("it is on another machine, and the connection is not encrypted", "see docs/security.md, TLS")
        )
    isolation = variables.get("transaction_isolation") or variables.get("tx_isolation", "?")
    words = f"{variables.get('version', '?')}, flushes each commit; isolation {isolation}, ours is set by us"
    return found or [ok(words + (f", TLS {cipher}" if cipher else ""))]


def _size(file: Path) -> int:
    sizes = (file.with_name(file.name + suffix) for suffix in ("", "-wal"))
    return sum(one.stat().st_size for one in sizes if one.exists())
