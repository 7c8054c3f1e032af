"""An account's database: is it there, and does its query yield whom it must."""

from zoneinfo import ZoneInfo

import sqlalchemy as sa

from broadcastd.audiences.inspection import Flaw, Ids, Openids, Server
from broadcastd.doctor.finding import Finding, Findings, fail, ok, skipped, warn
from broadcastd.doctor.subject import AccountSubject
from broadcastd.errors import AudienceUnavailableError
from broadcastd.server_settings import LOOPBACK
from broadcastd.settings import AudienceSettings

SLOW_S = 2.0
"""To connect and get an answer; a slice is one question."""
SILENCE_LEAST_S = 60
LAG_MOST_S = 30
MENDS = {
    Flaw.MISSING: "add to the query: AND id IS NOT NULL",
    Flaw.NO_NUMBER: "let the query yield a column of whole numbers as id: SELECT number AS id, openid …",
    Flaw.TOO_LARGE: "let the query yield another column as id: whole numbers up to 9223372036854775807",
    Flaw.REPEATED: "let the query yield each row once (a JOIN that finds several?), with a unique id",
    Flaw.UNORDERED: "the id is a text for the database: SELECT CAST(id AS SIGNED) AS id …, or another column",
}


async def audience(account: AccountSubject) -> Findings:
    """Reachable, how fast, and whether what goes over the network is encrypted."""
    url = sa.make_url(account.settings.audience.url.get_secret_value())
    try:
        server = await account.server()
    except AudienceUnavailableError as error:
        return [fail(str(error), *unreachable(str(error), url))]
    remote = account.inspection.is_mysql and url.host is not None and url.host not in LOOPBACK
    return judge_reached(server, remote=remote)


def unreachable(words: str, url: sa.URL) -> tuple[str, ...]:
    """What to do about a database that does not let us in."""
    if url.get_backend_name() == "sqlite":
        return (f"see that {url.database} is there, and may be read: ls -l {url.database}",)
    there = f"{url.host or 'localhost'} -P {url.port or 3306}"
    mend = f"try it by hand: mariadb -h {there} -u {url.username or 'USER'} -p {url.database or 'DATABASE'}"
    if "password" in words or "(1044)" in words:
        return (mend, "the password of audience.url must be the user's; a @ or / in it is written %40 or %2F")
    if "cannot be reached" in words:
        return (mend, "see whether it listens for other machines (bind-address), and the firewalls between")
    return (mend,)


def judge_reached(server: Server, *, remote: bool) -> Findings:
    """How it was reached."""
    seen = f"{server.version}, answers in {server.took_s * 1000:.0f} ms"
    found = []
    if server.took_s > SLOW_S:
        found.append(
            warn(f"{seen}: every slice waits for that", "see the network between, and the server's load")
        )
    if remote and not server.cipher:
        found.append(
            warn(
                f"{server.version} is on another machine, and the connection is not encrypted: whoever is"
                " between reads the openids, the access token, perhaps the password",
                "see docs/security.md, TLS; or a tunnel (ssh -L, WireGuard)",
            )
        )
    return found or [ok(seen + (f", TLS {server.cipher}" if server.cipher else ""))]


async def audience_server(account: AccountSubject) -> Findings:
    """What its server's own settings do to us."""
    if not account.inspection.is_mysql:
        return [skipped("it is a file")]
    writes = account.settings.callback is not None
    return judge_server(await account.server(), account.settings.audience, writes=writes)


def judge_server(server: Server, settings: AudienceSettings, *, writes: bool) -> Findings:
    """`writes`: the callback's statements do."""
    found: Findings = []
    if server.read_only and writes:
        found.append(
            fail(
                "read_only = ON: what followers reply cannot be written",
                "set audience.url to the primary server",
            )
        )
    if server.lag_s is not None and server.lag_s > LAG_MOST_S:
        found.append(
            warn(
                f"it is a replica, {server.lag_s:,} s behind: who opted out since is still asked",
                "mend the replication (SHOW SLAVE STATUS), or set audience.url to the primary server",
            )
        )
    if server.wait_timeout_s is not None and server.wait_timeout_s < SILENCE_LEAST_S:
        found.append(
            warn(
                f"wait_timeout = {server.wait_timeout_s}: it hangs up on whoever is silent for so long,"
                " and each of those connections is opened anew",
                "SET GLOBAL wait_timeout = 600; and in the server's my.cnf",
            )
        )
    most = server.most_connections
    if most is not None and most < settings.pool_size:
        found.append(
            warn(
                f"this user may have {most} connections, and audience.pool_size = {settings.pool_size}",
                f"set audience.pool_size = {most}, or: ALTER USER … WITH MAX_USER_CONNECTIONS"
                f" {settings.pool_size}",
            )
        )
    replica = "" if server.lag_s is None else f", a replica {server.lag_s} s behind"
    return found or [ok(f"wait_timeout {server.wait_timeout_s} s{replica}")]


async def audience_ids(account: AccountSubject) -> Findings:
    """One pass over all ids, as each job makes one."""
    try:
        return judge_ids(await account.ids())
    except AudienceUnavailableError as error:
        return [fail(str(error), *_of_the_query(str(error)))]


def _of_the_query(words: str) -> tuple[str, ...]:
    if "1146" in words or "1054" in words or "no such" in words:
        return ("correct audience.query: it names what the database does not have",)
    if "1142" in words or "1143" in words:
        return ("GRANT SELECT ON DATABASE.TABLE TO this user, for each table of audience.query",)
    return ("see the check audience",)


def judge_ids(ids: Ids) -> Findings:
    """What was seen of them."""
    findings = [
        fail(
            f"ids that are {flaw.value}: {count:,}, one of them {ids.examples[flaw]}; jobs are held for it,"
            " or leave people out",
            MENDS[flaw],
        )
        for flaw, count in ids.flaws.items()
    ]
    if not ids.count:
        if not ids.whole:
            return [warn("no id within 8 s: a job begins slowly", "see audience-plan")]
        mend = "run the query by hand; see audience-now, if it compares with :now"
        return [warn("nobody is eligible: a job would be held", mend)]
    so_far = "are eligible" if ids.whole else "and more are eligible"
    words = f"{ids.count:,} {so_far} (ids {ids.first} to {ids.last}), read in {ids.took_s:.1f} s"
    return findings or [ok(f"{words}; each id once, in order")]


async def audience_openids(account: AccountSubject) -> Findings:
    """Whether each row is a person of its own."""
    return judge_openids(await account.openids())


def judge_openids(openids: Openids) -> Findings:
    """The examples are ids: an openid is somebody's."""
    found = []
    if openids.repeated:
        found.append(
            warn(
                f"rows that repeat an openid: {openids.repeated:,}, as id {openids.repeated_example}:"
                " these people get each message more than once",
                "delete the repeats, then: CREATE UNIQUE INDEX one_row_each ON TABLE (openid); or let the"
                " query yield one row each: SELECT min(id) AS id, openid … GROUP BY openid",
            )
        )
    if openids.empty:
        found.append(
            warn(
                f"rows without an openid: {openids.empty:,}, one of them that of id {openids.empty_example}:"
                " each is counted as rejected",
                "add to the query: AND openid <> ''",
            )
        )
    return found or [ok(f"{openids.rows:,} rows, as many openids")]


async def audience_now(account: AccountSubject) -> Findings:
    """What `:now` is for the site's own columns."""
    settings = account.settings
    found = await account.inspection.now_kind()
    if found is None:
        return [skipped("the query has no :now")]
    kind, column = found
    zone = (await account.server()).zone
    server = f"; the server's own clock shows {zone}" if zone else ""
    if kind == "datetime":
        here = account.now.astimezone(ZoneInfo(settings.timezone))
        shown = f"a date and time of {settings.timezone}: now {here:%Y-%m-%d %H:%M}{server}"
    else:
        shown = f"seconds since 1970: now {int(account.now.timestamp())}"
    return [judge_now(shown, column, is_guess=settings.audience.now == "auto")]


def judge_now(shown: str, column: str | None, *, is_guess: bool) -> Finding:
    """`column`: what the query compares it with, as far as it can be told."""
    if column is None and is_guess:
        return warn(
            f":now is {shown}, for want of a column beside it in the query",
            'see that this is what the query wants, and set audience.now = "datetime" or "unix"',
        )
    by = "as the type of" if is_guess else "set; compared with"
    return ok(f":now is {shown} ({by} {column or 'no plain column'})")


async def counted(account: AccountSubject) -> int | None:
    """How many are eligible; None: not known."""
    try:
        ids = await account.ids()
        return ids.count if ids.whole else (await account.openids()).rows
    except AudienceUnavailableError:
        return None
