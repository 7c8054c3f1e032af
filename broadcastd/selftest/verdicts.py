"""From counts to verdicts. Pure: every criterion of a selftest is a function here, and can fail."""

from dataclasses import dataclass

from broadcastd.selftest.counts import Counted, Death, JobCount
from broadcastd.selftest.options import Options

TERMINAL = ("done", "cancelled", "expired")
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """One criterion, whether it is met, and the figures in plain words."""

    name: str
    ok: bool
    text: str


def judge(options: Options, counted: Counted) -> list[Verdict]:
    """All criteria. The run has passed when every one of them is met."""
    verdicts = [
        _lost(counted),
        _doubled(options, counted),
        _kills(options, counted.deaths),
        _orders(counted),
        _books(counted.jobs),
        _ran_on(counted.deaths),
    ]
    if counted.trouble:
        verdicts.append(Verdict("finished", False, f"the run could not be finished: {counted.trouble}"))
    return verdicts


def allowed_in_doubt(options: Options, death: Death) -> int:
    """How many this death may leave in doubt."""
    return options.in_flight_bound + death.answered


def _lost(counted: Counted) -> Verdict:
    to_reach, received, unknown = (
        counted.sum("recipients"),
        counted.sum("received"),
        counted.outcome("unknown"),
    )
    lost = counted.sum("lost")
    if not lost:
        rest = f", and the other {to_reach - received:,} are listed as unknown" if received < to_reach else ""
        text = (
            f"nobody is lost: of {to_reach:,}, {received:,} received it{rest} (unknown in all: {unknown:,})"
        )
        return Verdict("lost", to_reach > 0, text)
    some = [f"{who} of {job.order}" for job in counted.jobs for who in job.lost_some]
    text = f"{lost:,} of {to_reach:,} are lost: neither received nor listed as unknown, such as"
    return Verdict("lost", False, f"{text} {', '.join(some[:SHOWN])}")


def _doubled(options: Options, counted: Counted) -> Verdict:
    doubled, in_doubt = counted.sum("doubled"), counted.sum("in_doubt")
    if options.on_unknown == "leave":
        text = "nobody got it twice" if not doubled else f"{doubled:,} messages came twice"
        return Verdict("doubled", not doubled, f"{text}; --on-unknown leave allows none")
    # Job by job, for one job's doubts do not excuse another's repeats.
    beyond = [job for job in counted.jobs if job.doubled > job.in_doubt]
    if beyond:
        worst = max(beyond, key=lambda job: job.doubled - job.in_doubt)
        text = f"{worst.doubled:,} messages of {worst.order} came twice; {worst.in_doubt:,} were in doubt"
        return Verdict("doubled", False, text)
    text = f"{doubled:,} messages came twice, no more than the {in_doubt:,} in doubt, job by job"
    return Verdict("doubled", True, text)


def _kills(options: Options, deaths: tuple[Death, ...]) -> Verdict:
    kills = [death for death in deaths if death.how == "kill"]
    if not kills:
        return Verdict("kills", True, "no kill")
    worst = max(kills, key=lambda death: death.in_doubt - allowed_in_doubt(options, death))
    ok = worst.in_doubt <= allowed_in_doubt(options, worst)
    at_most = max(death.in_doubt for death in kills)
    if ok:
        text = (
            f"{len(kills)} x kill -9: none left more in doubt than is allowed; the most was {at_most:,}"
            f" (allowed: {options.in_flight_bound:,} + what was answered in the last 100 ms)"
        )
    else:
        text = (
            f"the kill of round {worst.round_no} left {worst.in_doubt:,} in doubt, more than"
            f" {options.in_flight_bound:,} + {worst.answered:,} answered in the last 100 ms"
        )
    return Verdict("kills", ok, text)


def _orders(counted: Counted) -> Verdict:
    orders = len(counted.jobs)
    left = [job for job in counted.jobs if job.state not in TERMINAL]
    ok = not left and orders == counted.jobs_in_ledger
    text = f"{orders} orders made {counted.jobs_in_ledger} jobs in the ledger"
    if left:
        text += f"; not ended: {', '.join(f'{job.order} ({job.state})' for job in left[:SHOWN])}"
    else:
        text += ", and all have ended"
    return Verdict("orders", ok, text)


def _books(jobs: tuple[JobCount, ...]) -> Verdict:
    wrong = [job for job in jobs if not job.balanced]
    if not wrong:
        return Verdict("books", True, "every job's books balance")
    first = wrong[0]
    text = (
        f"the books of {len(wrong)} jobs do not balance: {first.order} has {sum(first.outcomes.values()):,}"
        f" outcomes of {first.frozen:,} frozen recipients; {first.recipients:,} were to be reached"
    )
    return Verdict("books", False, text)


def _ran_on(deaths: tuple[Death, ...]) -> Verdict:
    crashes = [death for death in deaths if death.how == "crash"]
    dirty = [death for death in deaths if death.how == "stop" and death.exit_code != 0]
    if crashes:
        rounds = ", ".join(str(death.round_no) for death in crashes)
        text = f"the daemon ended by itself in round {rounds} (exit code {crashes[0].exit_code})"
    elif dirty:
        text = f"SIGTERM in round {dirty[0].round_no} ended with exit code {dirty[0].exit_code}"
    else:
        text = "the daemon never ended by itself"
    return Verdict("ran_on", not crashes and not dirty, text)
