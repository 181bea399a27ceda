"""A quarter of the workers lost: what was done twice with checkpoints and without, and how long all of it took.

    python benchmarks/checkpoints.py [--tasks 24] [--steps 40] [--workers 4] [--rounds 3]

Tasks of so many steps of 100 ms on so many workers with two children each; when half of the steps are done a quarter of
the workers is killed -9, and nobody takes their place. Every step is written down when it is made. `again_s`: from the
kill until a step of the last lost task was made anew; `lost_s`: the time of the steps that were made twice.
"""

import argparse
import statistics
import time
from collections import Counter
from pathlib import Path

from report import HANDLERS, ROOT, arguments, tell

from client.testing import LocalCluster

SECONDS, CHILDREN = 0.1, 2


def run(options: argparse.Namespace, checkpoints: bool) -> dict[str, float]:
    """The figures of one round."""
    with LocalCluster(options.workers, CHILDREN, {"TASKS_PATH": str(HANDLERS)}, ROOT) as farm:
        ledger = farm.folder / "ledger"
        ledger.touch()
        about = {"ledger": str(ledger), "seconds": SECONDS, "steps": options.steps, "checkpoints": checkpoints}
        began = time.monotonic()
        ids = farm.client.submit_many(
            {"task_type": "steps", "task_data": {**about, "name": f"t{n}"}} for n in range(options.tasks)
        )
        half = options.tasks * options.steps // 2
        farm.until(lambda: ledger.read_text().count("\n") >= half, "half of it is done", 600)
        for name in [*farm.workers][: max(1, options.workers // 4)]:
            farm.workers.pop(name).kill()
        killed = time.monotonic()
        ended = list(farm.client.results(ids, timeout=600))
        took = time.monotonic() - began
        assert sorted(task["task_id"] for task in ended) == sorted(ids)
        assert all(task["status"] == "completed" for task in ended)
        return {"seconds": took, "after_kill_s": took - (killed - began), **count(ledger, killed, options)}


def count(ledger: Path, killed: float, options: argparse.Namespace) -> dict[str, float]:
    """What the tasks wrote down: every step at least once."""
    made: Counter[tuple[str, str]] = Counter()
    again: dict[str, float] = {}
    for name, step, at in (line.split() for line in ledger.read_text().splitlines()):
        made[name, step] += 1
        if made[name, step] > 1:
            again.setdefault(name, float(at) - killed)
    assert len(made) == options.tasks * options.steps
    twice = sum(n - 1 for n in made.values())
    return {"steps_twice": twice, "lost_s": twice * SECONDS, "again_s": max(again.values(), default=0.0)}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    told: dict[str, float] = {}
    for name, checkpoints in (("with", True), ("without", False)):
        rounds = [run(options, checkpoints) for _ in range(options.rounds)]
        told |= {f"{name}_{key}": statistics.median(one[key] for one in rounds) for key in rounds[0]}
    sizes = {"tasks": options.tasks, "steps": options.steps, "workers": options.workers, "rounds": options.rounds}
    tell("checkpoints", {**sizes, **told})


if __name__ == "__main__":
    main()
