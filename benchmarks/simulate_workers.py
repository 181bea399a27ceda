"""A hundred thousand workers, simulated: what their heartbeats, claims and reports do to dispatchers and database.

    python benchmarks/simulate_workers.py [--seconds 60] [--seed 1]

A discrete-event model, fed with the costs that `costs.py` measured here. A dispatcher is one core: it takes all the
requests that have come in, works on them, commits once for all that wrote, and answers. A database is a number of
cores that the commits of its dispatchers queue for. Workers with two children each beat every 30 s at a moment of their
own, renew the claim that waits every 25 s, and report what they finished with a claim for the next; short tasks are
reported together every 0.6 s. All are spread evenly over the dispatchers, so that one shard is simulated: a dispatcher,
or all those before one database. Workers without tasks renew the claim every 45 s, which before a single dispatcher
stands for their heartbeats. Tasks come in by requests of 1,000. A core that would get more than a second of work a
second is overloaded, and nothing is simulated.
"""

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from report import arguments, spread, tell, told

BEAT_S, WAIT_S, IDLE_WAIT_S, CHILDREN, TOGETHER_S, FSYNC_S = 30.0, 25.0, 45.0, 2, 0.6, 0.0004
KINDS = ("heartbeat", "claim", "report")
GROUP = 500  # requests that share a commit at most
DEFAULT = Path(__file__).parent / "results"


class Cost(NamedTuple):
    """Seconds of one core, of the dispatcher's and of the database's."""

    dispatcher: float
    database: float = 0.0

    def times(self, n: float) -> "Cost":
        return Cost(self.dispatcher * n, self.database * n)

    def plus(self, other: "Cost") -> "Cost":
        return Cost(self.dispatcher + other.dispatcher, self.database + other.database)


@dataclass(frozen=True)
class Costs:
    """Of the requests of one kind of store."""

    beat: Cost
    claim: Cost  # one that waits in vain
    turn: Cost  # a report with a claim, beside what each of its tasks costs
    task: Cost
    submit: Cost  # of each task of a bulk submit

    @classmethod
    def measured(cls, store: str) -> "Costs":
        """As costs.py has told them."""
        costs = told("costs") or told("costs", DEFAULT)
        if costs is None:
            raise SystemExit("no costs were measured: python benchmarks/costs.py")
        of = costs[store]
        one, many = (_cost(of[f"turn_{n}"]) for n in (1, 64))
        task = Cost(*(max(0.0, (b - a) / 63) for a, b in zip(one, many, strict=True)))
        beat, claim, submit = (_cost(of[kind]) for kind in ("heartbeat", "empty_claim", "bulk_submit"))
        return cls(beat, claim, one.plus(task.times(-1)), task, submit)


def _cost(of: dict[str, float]) -> Cost:
    return Cost(of["dispatcher_us"] / 1e6, of.get("database_us", 0.0) / 1e6)


@dataclass(frozen=True)
class Layout:
    """How many shards, each with so many dispatchers on one store; `relay`: so many workers behind one instance."""

    name: str
    store: str
    shards: int = 1
    dispatchers: int = 1
    database_cores: int = 0
    relay: int = 1


class Load(NamedTuple):
    """How many workers, and how long their tasks take."""

    workers: int
    task_s: float

    @property
    def tasks_per_s(self) -> float:
        return self.workers * CHILDREN / self.task_s


class Kind(NamedTuple):
    """One kind of request of one instance: how often, and what each costs."""

    name: str
    every_s: float
    cost: Cost
    regular: bool


LAYOUTS = [
    Layout("one dispatcher, SQLite", "sqlite"),
    Layout("4 dispatchers, PostgreSQL on 16 cores", "postgresql", dispatchers=4, database_cores=16),
    Layout("16 dispatchers, PostgreSQL on 64 cores", "postgresql", dispatchers=16, database_cores=64),
    Layout("64 shards on SQLite", "sqlite", shards=64),
    Layout("64 shards on SQLite, 32 workers behind a relay", "sqlite", shards=64, relay=32),
]
LOADS = [Load(1000, 10), Load(10_000, 10), *(Load(100_000, seconds) for seconds in (math.inf, 60, 10, 0.2))]


def kinds(costs: Costs, layout: Layout, load: Load) -> list[Kind]:
    """What an instance asks; a relay asks for all of its workers at once."""
    rate = load.tasks_per_s / load.workers * layout.relay
    asked = [Kind("claim", WAIT_S if rate else IDLE_WAIT_S, costs.claim, True)]
    if rate or layout.dispatchers > 1:
        asked.append(Kind("heartbeat", BEAT_S, costs.beat, True))
    if rate:
        every = max(1 / rate, TOGETHER_S)
        turn = costs.turn.plus(costs.task.plus(costs.submit).times(rate * every))
        asked.append(Kind("report", every, turn, False))
    return asked


def busy(layout: Layout, load: Load, asked: list[Kind]) -> tuple[float, float]:
    """The share of a dispatcher's core, and of the database's cores, that the load takes."""
    instances = load.workers / layout.relay / layout.shards
    a_second = [sum(instances * cost / kind.every_s for kind, cost in zip(asked, of, strict=True))
                for of in zip(*(kind.cost for kind in asked), strict=True)]  # fmt: skip
    return a_second[0] / layout.dispatchers, a_second[1] / layout.database_cores if layout.database_cores else 0.0


def arrivals(asked: list[Kind], instances: int, seconds: float, dice: random.Random) -> Iterator[tuple[float, Kind]]:
    """The requests of one dispatcher's instances, in order: heartbeats each at its own beat, reports at random."""
    coming: list[tuple[float, int, Kind]] = []
    for kind in asked:
        if kind.regular:
            coming += [(dice.uniform(0, kind.every_s), n, kind) for n in range(instances)]
        else:
            coming.append((dice.expovariate(instances / kind.every_s), -1, kind))
    heapq.heapify(coming)
    while coming[0][0] < seconds:
        at, n, kind = coming[0]
        yield at, kind
        pause = kind.every_s if kind.regular else dice.expovariate(instances / kind.every_s)
        heapq.heapreplace(coming, (at + pause, n, kind))


@dataclass
class Dispatcher:
    """Serves what has come in, group by group."""

    requests: Iterator[tuple[float, Kind]]
    waiting: list[tuple[float, Kind]] = field(default_factory=list)
    free: float = 0.0
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    following: tuple[float, Kind] | None = None

    def next_group(self) -> float | None:
        """When the next group begins; None: nothing comes any more."""
        self.following = self.following or next(self.requests, None)
        return None if self.following is None else max(self.free, self.following[0])

    def serve(self, begin: float, database: "Database") -> None:
        """The group that begins then: work, the database's part, the commit."""
        group: list[tuple[float, Kind]] = []
        while self.following and self.following[0] <= begin and len(group) < GROUP:
            group.append(self.following)
            self.following = next(self.requests, None)
        worked = begin + sum(kind.cost.dispatcher for _, kind in group)
        self.free = database.run(worked, sum(kind.cost.database for _, kind in group)) + FSYNC_S
        for at, kind in group:
            self.took[kind.name].append((self.free - at) * 1000)


class Database:
    """Cores that commits queue for; none: there is no database beside the dispatcher."""

    def __init__(self, cores: int) -> None:
        self._free = [0.0] * cores

    def run(self, at: float, work: float) -> float:
        """When so much work that comes then is done."""
        if not self._free:
            return at
        done = max(self._free[0], at) + work
        heapq.heapreplace(self._free, done)
        return done


def simulate(layout: Layout, load: Load, asked: list[Kind], seconds: float, seed: int) -> dict[str, float]:
    """The times of one shard's requests."""
    dice = random.Random(f"{seed} {layout} {load}")
    each = max(1, round(load.workers / layout.relay / layout.shards / layout.dispatchers))
    database = Database(layout.database_cores)
    several = [Dispatcher(arrivals(asked, each, seconds, dice)) for _ in range(layout.dispatchers)]
    while True:
        begins = [(begin, n) for n, one in enumerate(several) if (begin := one.next_group()) is not None]
        if not begins:
            break
        begin, n = min(begins)
        several[n].serve(begin, database)
    times = {kind.name: [ms for one in several for ms in one.took[kind.name]] for kind in asked}
    return {f"{name}_{at}": spread(ms)[at] for name, ms in times.items() if ms for at in ("p50_ms", "p99_ms", "max_ms")}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for layout in LAYOUTS:
        costs = Costs.measured(layout.store)
        for load in LOADS:
            asked = kinds(costs, layout, load)
            dispatcher, database = busy(layout, load, asked)
            row = {"layout": layout.name, "workers": load.workers, "tasks_per_s": load.tasks_per_s,
                   "dispatcher_busy": dispatcher, "database_busy": database}  # fmt: skip
            if max(dispatcher, database) < 1:
                row |= simulate(layout, load, asked, options.seconds, options.seed)
            rows.append(row)
            print(words(row), flush=True)
    tell("simulate workers", {"seconds": options.seconds, "seed": options.seed, "rows": rows})


def words(row: dict[str, float]) -> str:
    head = f"{row['layout']}, {row['workers']:,} workers, {row['tasks_per_s']:,.0f} tasks/s"
    load = f"dispatcher {row['dispatcher_busy']:.0%}, database {row['database_busy']:.0%} busy"
    if "claim_p99_ms" not in row:
        return f"{head}: {load}: overloaded"
    late = [f"{name} {row[f'{name}_p99_ms']:.1f} ms" for name in KINDS if f"{name}_p99_ms" in row]
    return f"{head}: {load}; p99 of a {', of a '.join(late)}"


if __name__ == "__main__":
    main()
