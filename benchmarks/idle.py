"""What an idle system costs: dispatcher and one worker with two children, CPU and memory over a minute.

python benchmarks/idle.py [--seconds 60]
"""

import measuring
from report import ROOT, arguments, tell

from client.testing import LocalCluster

SETTLE_TASKS = 200


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with LocalCluster(1, 2, parent=ROOT) as farm:
        ids = farm.client.submit_many({"task_type": "noop"} for _ in range(SETTLE_TASKS))
        assert all(task["status"] == "completed" for task in farm.client.results(ids))
        farm.client.close()
        measuring.idle_cost([farm.dispatcher.pid], 2.0)  # what the last reports left to do
        roots = [farm.dispatcher.pid, farm.workers["worker-1"].pid]
        together = measuring.idle_cost(roots, options.seconds)
        parts = {
            f"{name}_pss_mb": measuring.pss_mb(measuring.family(pid))
            for name, pid in zip(("dispatcher", "worker"), roots, strict=True)
        }
    tell("idle", {"seconds": options.seconds, **together, **parts})


if __name__ == "__main__":
    main()
