"""`GET /metrics` for Prometheus (docs/metrics.md): gauges are read at that moment, from counts that are kept anyway."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from flask import Blueprint, Flask, Response, request
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dispatcher.config import VERSION
from dispatcher.meters import Histogram, Reading, Totals
from dispatcher.model import State
from dispatcher.queue import Queue, overview
from dispatcher.routes import body

KINDS = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
MOST = 2**53  # a larger number is no size of anything
Samples = Iterable[tuple[tuple[str, ...], float]]


class Moment(NamedTuple):
    """What one scrape read."""

    queue: Queue
    now: int
    counts: Mapping[tuple[str, str], Mapping[str, int]]
    oldest: Mapping[str, int]
    alive: list[dict[str, Any]]


class Measured(NamedTuple):
    """A gauge or a counter: its name without prefix, labels, meaning, and where its values come from."""

    kind: str
    name: str
    labels: tuple[str, ...]
    meaning: str
    of: Callable[[Moment], Samples]


class Distribution(NamedTuple):
    """A histogram."""

    name: str
    meaning: str
    of: Callable[[Queue], Histogram]


def _by_state(moment: Moment) -> Samples:
    for (queue, task_type), n in moment.counts.items():
        for state in State:
            yield (queue, task_type, state.value), n.get(state.value, 0)


def _ready(moment: Moment) -> Samples:
    return [(names, n.get("ready", 0)) for names, n in moment.counts.items()]


def _oldest(moment: Moment) -> Samples:
    for queue in sorted({queue for queue, _ in moment.counts}):
        since = moment.oldest.get(queue)
        yield (queue,), 0 if since is None else max(moment.now - since, 0) / 1000


def _of_workers(number: Callable[[Moment, Mapping[str, Any]], Any], merge: Callable[..., float]) -> Any:
    """One value a worker's name, which may have several instances; what a worker says may be anything."""

    def samples(moment: Moment) -> Samples:
        found: dict[str, list[float]] = defaultdict(list)
        for worker in moment.alive:
            value = number(moment, worker)
            if type(value) in (int, float) and abs(value) < MOST:
                found[worker["worker_id"]].append(value)
        return [((name,), merge(values)) for name, values in sorted(found.items())]

    return samples


def _said(name: str) -> Callable[[Moment, Mapping[str, Any]], Any]:
    return lambda _, worker: worker["metadata"].get(name)


def _finished(moment: Moment) -> Samples:
    ended = moment.queue.store.meters.ended.read()
    return [((state,), ended.get((state,), 0)) for state in ("completed", "failed", "cancelled")]


def _alone(value: Callable[[Moment], float]) -> Callable[[Moment], Samples]:
    return lambda moment: [((), value(moment))]


def _stored(moment: Moment) -> Samples:
    told = moment.queue.store.describe()
    return [((part,), told[name]) for part, name in (("database", "bytes"), ("wal", "wal_bytes")) if name in told]


MEASURED = (
    Measured("gauge", "tasks", ("queue", "task_type", "state"), "Tasks in each state, ended ones until they are pruned.", _by_state),  # noqa: E501
    Measured("gauge", "tasks_ready", ("queue", "task_type"), "Pending tasks that a worker could take now.", _ready),
    Measured("gauge", "oldest_waiting_seconds", ("queue",), "How long the oldest ready task has waited, 0 without any.", _oldest),  # noqa: E501
    Measured("counter", "tasks_finished", ("state",), "Tasks that came to a final state, since the dispatcher began.", _finished),  # noqa: E501
    Measured("gauge", "workers_live", (), "Instances of workers that are alive.", _alone(lambda m: len(m.alive))),
    Measured("gauge", "worker_leases", ("worker_id",), "Tasks that a living worker holds.",
             _of_workers(lambda _, worker: worker["leases"], sum)),
    Measured("gauge", "worker_outbox_outcomes", ("worker_id",), "Outcomes that a living worker has not delivered yet.",
             _of_workers(_said("outbox"), sum)),
    Measured("gauge", "worker_quarantined", ("worker_id",), "Outcomes that a living worker has set aside.",
             _of_workers(_said("quarantined"), sum)),
    Measured("counter", "heartbeats", ("form",), "Heartbeats that came, native or classic.",
             lambda moment: moment.queue.rates.heartbeats.read().items()),
    Measured("gauge", "waiting_claims", (), "Claims that wait for work.", _alone(lambda m: len(m.queue.waiting))),
    Measured("counter", "webhook_tries", ("became",), "Tries of webhooks: delivered, put_off, given_up or overtaken.",
             lambda moment: moment.queue.hooks.read().items()),
    Measured("gauge", "webhooks_open", (), "Webhooks to be delivered, counted up to 10,000.",
             _alone(lambda m: m.queue.open_hooks())),
    Measured("gauge", "store_healthy", (), "1 while the last transaction could be committed.",
             _alone(lambda m: int(m.queue.store.healthy))),
    Measured("gauge", "store_bytes", ("part",), "Size of the database file and of its write-ahead log (SQLite).", _stored),  # noqa: E501
    Measured("gauge", "build_info", ("version", "store"), "1, with the version and the kind of store as labels.",
             lambda m: [((VERSION, str(m.queue.store.describe()["store"])), 1)]),
)  # fmt: skip
DISTRIBUTIONS = (
    Distribution("task_wait_seconds", "How long tasks were ready before a worker claimed them.", lambda q: q.rates.wait_times),  # noqa: E501
    Distribution("task_run_seconds", "How long handlers ran, as workers report.", lambda q: q.rates.run_times),
    Distribution("store_commit_seconds", "How long COMMITs took.", lambda q: q.store.meters.commit_seconds),
    Distribution("store_group_operations", "How many operations shared a COMMIT.", lambda q: q.store.meters.group_sizes),  # noqa: E501
)  # fmt: skip
REQUESTS = ("http_requests", ("method", "route", "status"), "Requests that were answered, by route and status class.")


class Taskmill(Collector):
    """All of it, read at one moment."""

    def __init__(self, queue: Queue, requests: Totals) -> None:
        self._queue, self._requests = queue, requests

    def describe(self) -> Iterable[Metric]:
        """Nothing: nothing is read before it is asked."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        moment = _read(self._queue)
        for measured in MEASURED:
            yield _family(measured.kind, measured.name, measured.meaning, measured.labels, measured.of(moment))
        name, labels, meaning = REQUESTS
        yield _family("counter", name, meaning, labels, self._requests.read().items())
        for distribution in DISTRIBUTIONS:
            yield _histogram(distribution, distribution.of(self._queue).read())


def _read(queue: Queue) -> Moment:
    now, counts, oldest, workers = overview.look(queue)
    alive = [worker for worker in workers if worker["status"] == "alive"]
    return Moment(queue, now, counts, oldest, alive)


def _family(kind: str, name: str, meaning: str, labels: tuple[str, ...], samples: Samples) -> Metric:
    family: CounterMetricFamily | GaugeMetricFamily = KINDS[kind](f"taskmill_{name}", meaning, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _histogram(distribution: Distribution, reading: Reading) -> Metric:
    buckets = [(str(float(bound)), float(n)) for bound, n in reading.at_most]
    family = HistogramMetricFamily(f"taskmill_{distribution.name}", distribution.meaning)
    family.add_metric((), [*buckets, ("+Inf", float(reading.number))], reading.total)
    return family


def count_requests(app: Flask, totals: Totals) -> Totals:
    """Count what Flask answers from now on; an unknown path has the route `none`."""

    @app.after_request
    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        method = request.method if request.url_rule else "any"  # a stranger may send any word
        totals.add(method, route, f"{response.status_code // 100}xx")
        return response

    return totals


def blueprint(queue: Queue, requests: Totals) -> Blueprint:
    """The view."""
    views = Blueprint("metrics", __name__)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Taskmill(queue, requests))
    ProcessCollector(registry=registry)

    @views.get("/metrics")
    def metrics() -> Response:
        body.known_arguments()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    return views
