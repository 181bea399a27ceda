"""How much of two cores tasks of 0.1 to 0.2 s of pure Python get: their CPU time ÷ children ÷ wall.

    python benchmarks/efficiency.py [--tasks 200] [--children 2] [--rounds 3]

The wall runs from the submit to the last result. Every task tells its own CPU time. How much is a second's work is
measured before each round, on all children at once.
"""

import random
import statistics
import time

from measuring import Pace, burnt, rounds_a_second
from report import HANDLERS, ROOT, arguments, tell

from client.testing import LocalCluster


def run(farm: LocalCluster, tasks: int, children: int) -> tuple[float, float]:
    """The efficiency of one round, and the CPU time of a task, seconds."""
    a_second, dice = rounds_a_second(farm.client, children), random.Random(tasks)
    sizes = [int(dice.uniform(0.1, 0.2) * a_second) for _ in range(tasks)]
    began = time.perf_counter()
    spent = burnt(farm.client, sizes)
    return spent / children / (time.perf_counter() - began), spent / tasks


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with LocalCluster(1, options.children, {"TASKS_PATH": str(HANDLERS)}, ROOT) as farm:
        pace = Pace()
        told = []
        for _ in range(options.rounds):
            pace.note()
            told.append(run(farm, options.tasks, options.children))
    shares, seconds = zip(*told, strict=True)
    sizes = {"tasks": options.tasks, "children": options.children, "rounds": options.rounds}
    of_a_task = {"task_cpu_seconds": statistics.mean(seconds)}
    spread = {"median": statistics.median(shares), "least": min(shares), "most": max(shares)}
    tell("efficiency", {**sizes, **of_a_task, **pace.told(), **spread})


if __name__ == "__main__":
    main()
