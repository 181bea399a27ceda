"""What finished tasks leave on the dispatcher's disk: bytes for each no-op task with its result.

    python benchmarks/disk.py [--tasks 100000]

The dispatcher is stopped, which folds its WAL into the file, before and after.
"""

from report import ROOT, arguments, tell

from client.testing import LocalCluster


def size(farm: LocalCluster) -> int:
    """The bytes of the queue's files while the dispatcher is stopped."""
    farm.dispatcher.stop()
    taken = sum(path.stat().st_blocks * 512 for path in farm.folder.glob("queue.db*"))
    farm.start_dispatcher()
    return taken


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    options = parser.parse_args()
    with LocalCluster(1, 2, parent=ROOT) as farm:
        empty = size(farm)
        ids = farm.client.submit_many({"task_type": "noop", "task_data": {}} for _ in range(options.tasks))
        done = sum(task["status"] == "completed" and task["result"] == {} for task in farm.client.results(ids))
        assert done == options.tasks
        full = size(farm)
        assert farm.client.stats()["completed_tasks"] == options.tasks
    tell("disk", {"tasks": options.tasks, "empty_bytes": empty, "bytes_per_task": (full - empty) / options.tasks})


if __name__ == "__main__":
    main()
