"""Tasks end to end: submits, child processes, durable commits, every result read back and checked.

    python benchmarks/throughput.py [--tasks 10000] [--flood 60000] [--singles 1000] [--rounds 5] [--children 1 2 4]
        [--types noop nap]

One worker with so many children each time. A round is timed from the first submit until the last result was read; the
figures are medians over the rounds. `bulk` submits all at once, `flood` so many no-op tasks that they last for seconds;
`single` submits `--singles` tasks one by one, each acknowledged before the next. A nap sleeps for a millisecond. After
each round a loop of pure Python tells how fast the machine is (`measuring.Pace`).
"""

import argparse
import statistics
import time
from typing import Any

from measuring import Pace
from report import ROOT, arguments, tell

from client.testing import LocalCluster

TYPES: dict[str, dict[str, Any]] = {
    "noop": {"task_type": "noop", "task_data": {}},
    "nap": {"task_type": "sleep", "task_data": {"seconds": 0.001}},
}
RESULTS = {"noop": {}, "nap": {"slept": 0.001}}
WARM = 500


def bulk(farm: LocalCluster, kind: str, tasks: int) -> list[int]:
    return farm.client.submit_many(TYPES[kind] for _ in range(tasks))


def single(farm: LocalCluster, kind: str, tasks: int) -> list[int]:
    return [farm.client.submit(TYPES[kind]["task_type"], TYPES[kind]["task_data"]) for _ in range(tasks)]


SUBMITS = {"bulk": bulk, "flood": bulk, "single": single}


def run(farm: LocalCluster, how: str, kind: str, tasks: int) -> float:
    """Tasks per second of one round."""
    began = time.perf_counter()
    ids = SUBMITS[how](farm, kind, tasks)
    ended = list(farm.client.results(ids))
    took = time.perf_counter() - began
    assert len(ended) == tasks == len({task["task_id"] for task in ended})
    assert all(task["status"] == "completed" and task["result"] == RESULTS[kind] for task in ended)
    return tasks / took


def measure(children: int, options: argparse.Namespace, pace: Pace) -> dict[str, dict[str, Any]]:
    """By type and way of submitting, for one number of children."""
    told = {}
    with LocalCluster(1, children, parent=ROOT) as farm:
        for kind in options.types:
            run(farm, "bulk", kind, WARM)
            flood = options.flood if kind == "noop" else 0
            for how, tasks in (("bulk", options.tasks), ("flood", flood), ("single", options.singles)):
                rounds = [(run(farm, how, kind, tasks), pace.note()) for _ in range(options.rounds if tasks else 0)]
                if rounds:
                    rates = [rate for rate, _ in rounds]
                    least, most = min(rates), max(rates)
                    own = {"per_s": statistics.median(rates), "least": least, "most": most, "rounds": rounds}
                    told[f"{kind} {how}"] = own
    return told


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--flood", type=int, default=60_000)
    parser.add_argument("--singles", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--children", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--types", nargs="+", choices=list(TYPES), default=list(TYPES))
    options = parser.parse_args()
    pace = Pace()
    table = {children: measure(children, options, pace) for children in options.children}
    for children, told in table.items():
        words = [f"{what} {rate['per_s']:,.0f}/s" for what, rate in told.items()]
        print(f"{children} children: {', '.join(words)}")
    sizes = {name: getattr(options, name) for name in ("tasks", "flood", "singles", "rounds")}
    tell("throughput", {**sizes, **pace.told(), "children": table})


if __name__ == "__main__":
    main()
