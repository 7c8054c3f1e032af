"""The API: reachable, in time, with a token that it takes, from an address that it knows; and its quotas."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from yarl import URL

from broadcastd.channels import CHANNELS
from broadcastd.channels.inspection import Reach, ask_harmless
from broadcastd.channels.token_api import ip_in
from broadcastd.delivery.forecast import Asked, Reset, Seen, forecast
from broadcastd.doctor.audience import counted
from broadcastd.doctor.finding import Finding, Findings, fail, ok, skipped, warn
from broadcastd.doctor.subject import AccountSubject, Token
from broadcastd.errcodes import Action, in_words, meaning_of
from broadcastd.errors import AudienceUnavailableError
from broadcastd.outcomes import Answer
from broadcastd.server_settings import LOOPBACK
from broadcastd.transports.endings import UNTRUSTED

SLOW_S = 2.0
CERTIFICATE_LEAST = timedelta(days=7)
AHEAD_WARN_S, AHEAD_FAIL_S = 5.0, 60.0
"""TLS, tokens and `not_before` bear some seconds; the callback refuses what is 10 minutes off."""
NOT_LISTED = (40164, 61004, 45035)
FIREWALL = "firewall: outgoing TCP to port 443 must be open"


async def api(account: AccountSubject) -> Findings:
    """From the name to an answer."""
    return [judge_reach(await account.reach(), URL(account.settings.api_base), account.now)]


def judge_reach(seen: Reach, url: URL, now: datetime) -> Finding:
    """`seen`: of the host of `api_base`."""
    host = url.host or ""
    here = host in LOOPBACK
    if seen.untrusted:
        return fail(seen.trouble, "see the clock; apt-get install ca-certificates; is there a proxy between?")
    if seen.trouble:
        return fail(
            seen.trouble, f"curl -v {url}", *(() if here else ("DNS: cat /etc/resolv.conf", FIREWALL))
        )
    words = f"{host} ({seen.address}) answers in {(seen.took_s or 0) * 1000:.0f} ms"
    if url.scheme != "https":
        true = 'api_base = "https://api.weixin.qq.com"'
        if here:
            return warn(f"{words}: it is this machine, not WeChat", f"for true sends: {true}")
        return fail(f"{words}, unencrypted: whoever is between reads the access token", true)
    return _judge_tls(seen, words, host, now)


def _judge_tls(seen: Reach, words: str, host: str, now: datetime) -> Finding:
    until = seen.certificate_until
    if until is not None and until - now < CERTIFICATE_LEAST:
        return warn(
            f"{words}; its certificate ends {until:%Y-%m-%d}", "that is WeChat's to renew, or a proxy's"
        )
    if (seen.took_s or 0) > SLOW_S:
        return warn(f"{words}: slow; sends will be, too", f"see the network: mtr {host}")
    return ok(words + (f", certificate until {until:%Y-%m-%d}" if until is not None else ""))


async def clock(account: AccountSubject) -> Findings:
    """Ours against the API's and the database's."""
    theirs: dict[str, float] = {}
    seen = await account.reach()
    if seen.ahead_s is not None:
        theirs["the API"] = seen.ahead_s
    try:
        server = await account.server()
        if server.ahead_s is not None:
            theirs["the site's database"] = server.ahead_s
    except AudienceUnavailableError:
        pass  # told by the check audience
    return judge_clock(theirs)


def judge_clock(ahead_s: dict[str, float]) -> Findings:
    """`ahead_s`: of whom, and how far our clock is ahead of theirs."""
    if not ahead_s:
        return [skipped("nobody to compare with has answered")]
    ours = (
        "set it by the network: timedatectl set-ntp true (or apt-get install chrony), then timedatectl status"
    )
    findings = []
    # Who agrees with nobody is wrong: where the API's clock and ours agree, it is the database's.
    api_agrees = abs(ahead_s.get("the API", AHEAD_FAIL_S)) <= AHEAD_WARN_S
    for whose, apart_s in ahead_s.items():
        if abs(apart_s) <= AHEAD_WARN_S:
            continue
        side = "ahead of" if apart_s > 0 else "behind"
        words = f"this machine's clock is {abs(apart_s):,.0f} s {side} that of {whose}"
        is_theirs = whose != "the API" and api_agrees
        mend = (
            "it is the database's that is wrong: on its machine, timedatectl set-ntp true"
            if is_theirs
            else ours
        )
        judge = fail if abs(apart_s) > AHEAD_FAIL_S else warn
        findings.append(judge(words, mend))
    return findings or [ok(f"agrees with {' and '.join(ahead_s)}")]


async def token(account: AccountSubject) -> Findings:
    """Is there one, and does WeChat take it from this address."""
    found = await account.token()
    from_table = account.settings.token.source == "table"
    if not found.text:
        return [judge_no_token(found, from_table=from_table)]
    return [judge_token(found, await ask_harmless(account.api, found.text), from_table=from_table)]


def judge_no_token(found: Token, *, from_table: bool) -> Finding:
    """There is none."""
    if from_table:
        return fail(
            found.trouble,
            "see audience and accounts.NAME.token.query: it must yield the token that the site keeps fresh;"
            ' or set token.source = "api"',
        )
    if any(str(code) in found.trouble for code in NOT_LISTED):
        return fail(found.trouble, "WeChat's console: 设置与开发, 基本配置, IP白名单")
    if UNTRUSTED in found.trouble or "no connection" in found.trouble:
        return fail(
            found.trouble, "see what is said of api_base; a CA of your own: SSL_CERT_FILE, docs/security.md"
        )
    return fail(found.trouble, "compare app_id and app_secret with WeChat's console: 设置与开发, 基本配置")


def judge_token(found: Token, answer: Answer, *, from_table: bool) -> Finding:
    """`answer`: to a call with it that changes nothing."""
    if not answer.answered:
        return fail(f"no answer to a call with it: {answer.refused or answer.unanswered}", "see api")
    words = in_words(answer.errcode)
    if answer.errcode in NOT_LISTED:
        address = ip_in(answer.errmsg)
        return fail(
            words, f"put {address} on the whitelist. WeChat's console: 设置与开发, 基本配置, IP白名单"
        )
    if meaning_of(answer.errcode).action is Action.REFRESH:
        if from_table:
            return fail(
                f"WeChat refuses the token of the site's table: {words}",
                "see the site's own program that refreshes it (a cron job?);"
                ' or have broadcastd do that: token.source = "api"',
            )
        return fail(
            f"WeChat refuses the token that it gives out itself: {words}",
            "the daemon forces a new one when it sends; does another program use the same app_id?",
        )
    if answer.errcode:
        return fail(words, "see WeChat's console for what is wrong with the account")
    life = "" if found.expires_in_s is None else f"; for another {found.expires_in_s:,} s"
    return ok(f"WeChat takes it, from this address ({'of the site' if from_table else 'from WeChat'}{life})")


async def quota(account: AccountSubject) -> Findings:
    """What is left of today's calls, against who is eligible."""
    found = await account.token()
    if not found.text:
        return [skipped("no access token: see token")]
    seen: dict[str, Seen] = {}
    troubles = []
    for name in account.settings.channels:
        path = CHANNELS[name](account.api, account.settings).path
        answer = await account.quotas.get(path, found.text)
        if isinstance(answer, Answer):
            words = in_words(answer.errcode) if answer.answered else answer.refused or answer.unanswered
            troubles.append(warn(f"{name}: WeChat gives no figures: {words}", "see token and api"))
        else:
            seen[name] = Seen(answer, account.now)
    if not seen:
        return list(troubles)
    return [*troubles, *judge_quota(account, seen, await counted(account))]


def judge_quota(account: AccountSubject, seen: dict[str, Seen], eligible: int | None) -> Findings:
    """`eligible`: how many a job would be for; None: not known."""
    settings = account.settings.quota
    reset = Reset(settings.resets_at, ZoneInfo(settings.timezone))
    found = forecast(Asked(tuple(seen), eligible, account.now), seen, reset, account.now)
    again = reset.after(account.now).astimezone(ZoneInfo(settings.timezone))
    mend = f"it is back at {again:%Y-%m-%d %H:%M}; before that: broadcastd quota clear (10 a month)"
    short = [warn(one, mend) for one in found.warnings]
    return short or [ok(found.words)]
