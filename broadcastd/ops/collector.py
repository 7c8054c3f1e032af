"""Makes figures for Prometheus of what is counted and of what can be seen. docs/http.md lists them."""

import platform
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from broadcastd import __version__
from broadcastd.delivery.accounts import Account
from broadcastd.delivery.lane import Lane
from broadcastd.metrics import Histogram
from broadcastd.ops.sources import Sources
from broadcastd.outcomes import Outcome
from broadcastd.states import JOB_OPEN, JOB_TERMINAL

PREFIX = "broadcastd_"
Rows = Iterable[tuple[tuple[str, ...], float]]


def gauge(name: str, words: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    """Something that goes up and down."""
    family = GaugeMetricFamily(PREFIX + name, words, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def counter(name: str, words: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    """Something that only grows, until the next start. Prometheus' name of it ends in `_total`."""
    family = CounterMetricFamily(PREFIX + name, words, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def histogram(
    name: str, words: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], Histogram]]
) -> Metric:
    """Values by size."""
    family = HistogramMetricFamily(PREFIX + name, words, labels=labels)
    for values, one in rows:
        family.add_metric(values, one.cumulative(), one.total)
    return family


def one(value: float) -> Rows:
    """The row of a figure without labels."""
    return [((), value)]


class DaemonCollector(Collector):
    """Looks at the daemon whenever it is asked. In the event loop's thread."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.slices_open: int | None = None
        """Asked of the ledger beforehand; None: it could not be read."""

    def describe(self) -> list[Metric]:
        """Nothing is looked at before somebody asks."""
        return []

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield from self._daemon()
        yield from self._jobs()
        yield from self._accounts()
        yield from self._calls()
        yield from self._ledger()
        yield from self._pools()
        yield from self._ports()
        yield from self._pushes()

    def _daemon(self) -> Iterator[Metric]:
        sources = self._sources
        version = ("version", "python")
        build = [((__version__, platform.python_version()), 1.0)]
        yield gauge("build_info", "Always 1", version, build)
        uptime_s = sources.clock.monotonic_s() - sources.started_s
        yield gauge("uptime_seconds", "Since the start", (), one(uptime_s))
        yield gauge("accepting", "1: new jobs are accepted", (), one(self._accepting()))
        yield gauge("tasks", "Coroutines that send slices", (), one(sources.tasks))
        yield gauge("tasks_busy", "Those that have a slice", (), one(sources.dispatcher.tasks_busy))
        lag = sources.loop_lag
        yield gauge("loop_lag_seconds", "How late the event loop is", (), one(lag.last_s))
        yield gauge("loop_lag_max_seconds", "The most of the last minute", (), one(lag.most_s))

    def _accepting(self) -> float:
        return float(not (self._sources.intake.closed or self._sources.intake.not_durable))

    def _jobs(self) -> Iterator[Metric]:
        jobs, accounts = list(self._sources.jobs), self._sources.accounts
        states = dict.fromkeys(((name, state.value) for name in accounts for state in JOB_OPEN), 0)
        waiting, scheduled = dict.fromkeys(accounts, 0), dict.fromkeys(accounts, 0)
        for job in jobs:
            name = job.account.name
            states[name, job.state.value] += 1
            scheduled[name] += not job.due
            waiting[name] += bool(job.going and job.waits_for)
        by_account = ("account",)
        yield gauge("jobs_open", "Jobs that have not ended", ("account", "state"), states.items())
        yield gauge("jobs_scheduled", "… whose time has not come", by_account, _flat(scheduled))
        yield gauge("jobs_waiting", "… that wait for the site's database", by_account, _flat(waiting))
        if self.slices_open is not None:
            yield gauge("slices_open", "Slices that are due, and no task has", (), one(self.slices_open))
        counts = self._sources.jobs.counts
        known = dict.fromkeys(accounts, 0)
        yield counter("jobs_accepted", "New jobs", by_account, _flat({**known, **counts.accepted}))
        yield counter(
            "jobs_repeated", "Frames of known jobs", by_account, _flat({**known, **counts.repeated})
        )
        finished = (
            ((name, state.value), counts.finished.get((name, state.value), 0))
            for name in accounts
            for state in JOB_TERMINAL
        )
        yield counter("jobs_finished", "Ended, by last state", ("account", "state"), finished)

    def _accounts(self) -> Iterator[Metric]:
        now = self._sources.clock.now()
        accounts = self._sources.accounts
        by_account = ("account",)
        outcomes = (
            ((name, channel or "none", outcome.value), account.tally.outcomes.get((channel, outcome), 0))
            for name, account in accounts.items()
            for channel in (*account.channels, "")
            for outcome in Outcome
        )
        labels = ("account", "channel", "outcome")
        yield counter("outcomes", "How recipients ended, as the tasks saw it", labels, outcomes)
        held = (((name,), float(one.is_held(now))) for name, one in accounts.items())
        yield gauge("account_held", "1: WeChat refuses the account", by_account, held)
        troubled = (((name,), float(bool(one.tokens.trouble))) for name, one in accounts.items())
        yield gauge("token_trouble", "1: no access token can be had", by_account, troubled)
        ages = (((name,), age_s) for name, one in accounts.items() if (age_s := self._age_s(one)) is not None)
        words = "Since the last outcome, or the first job's begin, while a job could go on"
        yield gauge("last_outcome_age_seconds", words, by_account, ages)

    def _age_s(self, account: Account) -> float | None:
        """For how long nothing has ended though a job could go on; None: there is no such job."""
        jobs = [entry.job for entry in self._sources.jobs if entry.account is account and entry.going]
        if not jobs:
            return None
        clock = self._sources.clock
        begun = min(max(job.accepted_at, job.not_before or job.accepted_at) for job in jobs)
        last_s = account.tally.last_at_s
        since_s = self._sources.started_s if last_s is None else last_s
        return max(0.0, min((clock.now() - begun).total_seconds(), clock.monotonic_s() - since_s))

    def _calls(self) -> Iterator[Metric]:
        labels = ("account", "channel")
        lanes = [
            ((name, channel), lane)
            for name, account in self._sources.accounts.items()
            for channel, lane in account.lanes.items()
        ]
        answers = (
            ((*key, str(kind)), many) for key, lane in lanes for kind, many in lane.calls.answers.items()
        )
        yield counter("answers", "By errcode, or kind of trouble", (*labels, "errcode"), answers)
        latencies = ((key, lane.calls.latency_s) for key, lane in lanes)
        yield histogram("call_seconds", "Calls of the WeChat API", labels, latencies)

        def each(look: Callable[[Lane], float]) -> Rows:
            return [(key, look(lane)) for key, lane in lanes]

        yield gauge("calls_in_flight", "Under way", labels, each(lambda lane: lane.in_flight))
        yield gauge("calls_in_flight_limit", "How many may be", labels, each(lambda lane: lane.limit))
        held = each(lambda lane: float(lane.hold is not None))
        yield gauge("channel_held", "1: it takes no calls", labels, held)
        seen = [
            ((name, channel), figures.quota)
            for name, quotas in self._sources.quotas.items()
            for channel, figures in quotas.seen.items()
        ]
        left = ((key, float(quota.left)) for key, quota in seen)
        yield gauge("quota_left", "Calls that WeChat says are left today", labels, left)
        most = ((key, float(quota.daily_limit)) for key, quota in seen)
        yield gauge("quota_limit", "Calls that WeChat allows a day", labels, most)

    def _ledger(self) -> Iterator[Metric]:
        ledger, commits = self._sources.ledger, self._sources.commits
        yield histogram("ledger_commit_seconds", "Commits", (), [((), commits.seconds)])
        words = "Marks, outcomes and deferrals of one commit"
        yield histogram("ledger_commit_rows", words, (), [((), commits.rows)])
        yield counter("ledger_commits_failed", "Commits that did not reach the disk", (), one(commits.failed))
        yield gauge("ledger_trouble", "1: it cannot be written", (), one(float(bool(ledger.trouble))))
        copied = float(bool(ledger.copied))
        yield gauge("ledger_copied", "1: it is a copy, and its jobs are held", (), one(copied))
        free = ledger.free_bytes()
        if free is not None:
            yield gauge("ledger_free_bytes", "Room on its disk", (), one(free))

    def _pools(self) -> Iterator[Metric]:
        labels = ("account", "pool")
        pools = [((account, kind), look()) for account, kind, look in self._sources.pools]
        used = ((key, float(in_use)) for key, (in_use, _) in pools)
        yield gauge("connections_used", "To the site's database, to the API", labels, used)
        most = ((key, float(limit)) for key, (_, limit) in pools)
        yield gauge("connections_limit", "How many there may be", labels, most)

    def _ports(self) -> Iterator[Metric]:
        frames = self._sources.frames.results.items()
        yield counter("frames", "Frames, by op and `ok` or error code", ("op", "result"), frames)
        requests = (
            ((route, str(code)), many) for (route, code), many in self._sources.requests.counts.items()
        )
        yield counter("http_requests", "Requests of this port", ("route", "status"), requests)

    def _pushes(self) -> Iterator[Metric]:
        callbacks = self._sources.callbacks
        if callbacks.reception is None:
            return
        heard = (((name, kind.value), many) for (name, kind), many in callbacks.reception.heard.items())
        yield counter("pushes", "New pushes of WeChat", ("account", "kind"), heard)
        by_account = ("account",)
        refused = (((one.account,), one.refused) for one in callbacks.endpoints)
        yield counter("pushes_refused", "Those with a wrong signature", by_account, refused)
        waiting = (((name,), one.waiting) for name, one in callbacks.appliers.items())
        yield gauge("pushes_waiting", "… whose statement waits for the site's database", by_account, waiting)


def _flat(counts: dict[str, int]) -> Rows:
    return [((name,), many) for name, many in counts.items()]


class Exposition:
    """The text of `/metrics`."""

    def __init__(self, sources: Sources) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._collector = DaemonCollector(sources)
        self._registry.register(self._collector)
        ProcessCollector(registry=self._registry)

    def text(self, slices_open: int | None) -> bytes:
        """As of now."""
        self._collector.slices_open = slices_open
        return generate_latest(self._registry)
