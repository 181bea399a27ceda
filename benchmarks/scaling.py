"""How more children help: tasks that do nothing but compute, one worker with 1, 2, 4 and 8 of them.

    python benchmarks/scaling.py [--tasks 16] [--limit 1000000] [--children 1 2 4 8]

A task counts the primes up to the limit by trial division. `speedup` is against one child; it cannot pass the number
of cores.
"""

import os
import time

from report import ROOT, arguments, tell

from client.testing import LocalCluster

KNOWN = {1000: 168, 10_000: 1229, 100_000: 9592, 1_000_000: 78_498}


def run(children: int, tasks: int, limit: int) -> float:
    """Seconds from the submit to the last result."""
    task = {"task_type": "prime", "task_data": {"limit": limit, "method": "trial_division", "return_primes": False}}
    with LocalCluster(1, children, parent=ROOT) as farm:
        warm = farm.client.submit_many({"task_type": "noop"} for _ in range(4 * children))
        assert len(list(farm.client.results(warm))) == len(warm)
        began = time.perf_counter()
        ended = list(farm.client.results(farm.client.submit_many(task for _ in range(tasks))))
        took = time.perf_counter() - began
    assert len(ended) == tasks
    assert all(task["result"]["count"] == KNOWN[limit] for task in ended), ended[0]
    return took


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--limit", type=int, choices=list(KNOWN), default=1_000_000)
    parser.add_argument("--children", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    took = {children: run(children, options.tasks, options.limit) for children in options.children}
    first = took[options.children[0]]
    told = {children: {"seconds": seconds, "speedup": first / seconds} for children, seconds in took.items()}
    for children, one in told.items():
        print(f"{children} children: {one['seconds']:.2f} s, {one['speedup']:.2f} x")
    tell("scaling", {"tasks": options.tasks, "limit": options.limit, "cores": os.cpu_count(), "children": told})


if __name__ == "__main__":
    main()
