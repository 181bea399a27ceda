"""A farm with short times, the handlers of these tests, and a ledger of what was executed."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import stored_file
from history import Execution, Ledger
from processes import children, is_free, of_folder, wait
from warm import Cluster

from client import Client, StillOpen
from client.testing import STOP_SECONDS, LocalCluster, Process

LEASE, DEATH, GAP = 3.0, 3.0, 5.0  # seconds; the last is the dispatcher's own (terms.py)
SHORT = {
    "DEFAULT_LEASE_DURATION": f"{LEASE}",
    "WORKER_DEATH_TIMEOUT": f"{DEATH}",
    "WORKER_HEARTBEAT_INTERVAL": "0.5",
    "CACHE_RETRY_INTERVAL": "0.5",
}
SERVES_WITHIN = 3.0  # times `slowness()`


class Farm(Cluster):
    """Real processes; `ledger` is where their handlers write down what they execute."""

    def __init__(self, folder: Path, workers: int = 2, concurrency: int = 2, **settings: str) -> None:
        own = {"TASKS_PATH": str(Path(__file__).parent / "handlers"), "DISPATCHER_PORT": str(free_port())}
        super().__init__(workers, concurrency, {**SHORT, **own, **settings}, parent=folder)
        self._logged: dict[str, int] = {}  # where the log of a worker's newest process begins
        self.ledger = Ledger(self.folder / "ledger")
        self.env["TASKMILL_LEDGER"] = str(self.ledger.path)

    @property
    def database(self) -> Path:
        """The dispatcher's file."""
        return self.folder / "queue.db"

    @property
    def port(self) -> int:
        """The dispatcher's port."""
        return int(self.env["DISPATCHER_PORT"])

    def new_client(self, retry_seconds: float = 60.0) -> Client:
        """A client of one's own; it outlives restarts of the dispatcher."""
        return Client(self.env["DISPATCHER_URL"], retry_seconds=retry_seconds)

    def start_again(self) -> float:
        """Start the dispatcher, whose process has ended; the seconds until it serves."""
        self.client.close()
        began = time.monotonic()
        self.start_dispatcher()
        self.until(lambda: self.client.health()["status"] == "healthy", "the dispatcher serves")
        return time.monotonic() - began

    def start_worker(self, name: str, **settings: str) -> Process:
        """Start one more worker."""
        log = self.folder / f"{name}.log"
        self._logged[name] = log.stat().st_size if log.exists() else 0
        return super().start_worker(name, **settings)

    def _start(self, words: list[str], env: Mapping[str, str], log: Path) -> Process:
        """A dispatcher that starts again starts cold: how long that takes is measured."""
        again = words[0] == "dispatcher" and log.exists()
        return LocalCluster._start(self, words, env, log) if again else super()._start(words, env, log)

    def is_up(self, name: str) -> bool:
        """Whether the newest process of a worker has said that it started."""
        with (self.folder / f"{name}.log").open("rb") as log:
            log.seek(self._logged[name])
            return b" started: " in log.read()

    def executions(self) -> list[Execution]:
        """What was executed so far."""
        return self.ledger.read()

    def runs(self) -> Counter[int]:
        """How often each task was begun, by its number."""
        return Counter(one.number for one in self.executions())

    def submit_ledger(self, numbers: Iterable[int], seconds: float = 0.005, **fields: Any) -> list[int]:
        """Submit ledger tasks."""
        return self.client.submit_many(
            {"task_type": "ledger", "task_data": {"number": n, "seconds": seconds}, **fields} for n in numbers
        )

    def results(self, task_ids: Iterable[int], timeout: float = 30.0) -> dict[int, dict[str, Any]]:
        """The tasks once all have ended; raises AssertionError with the logs when some do not."""
        try:
            return {task["task_id"]: task for task in self.client.results(task_ids, timeout)}
        except StillOpen as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def in_progress(self) -> int:
        """How many leases are live."""
        return int(self.client.stats()["in_progress_tasks"])

    def holder(self, task_id: int) -> Process:
        """The worker that runs a task."""
        return self.workers[self.client.task(task_id)["assigned_to"]]

    def wait_executing(self, count: int) -> list[Execution]:
        """Until so many handlers run at the same time; those."""
        self.until(lambda: len(self._running()) >= count, f"{count} handlers run")
        return self._running()

    def _running(self) -> list[Execution]:
        return [one for one in self.executions() if one.ended is None]

    def outboxes_empty(self) -> bool:
        """Whether no living worker has anything undelivered, by its own word."""
        alive = [worker for worker in self.client.stats()["workers"] if worker["status"] == "alive"]
        return bool(alive) and not any(worker["metadata"].get("outbox") for worker in alive)

    def instance_folders(self) -> list[Path]:
        """What instances of workers left (or hold), quarantined things included."""
        return [path for path in self.folder.glob("cache/*/*") if path.name != "quarantine" or any(path.iterdir())]

    def close(self) -> None:
        """Stop everything. Raises AssertionError with the logs when something does not stop by itself."""
        processes = [*self.workers.values(), *filter(None, [getattr(self, "dispatcher", None)])]
        try:
            deaf = [self._told(process) for process in processes if not _stopped(process)]
        finally:
            super().close()
            for process in processes:
                process.kill()  # what could not be stopped is dead by now, and is reaped here
        assert not deaf, "\n".join(deaf)

    def _told(self, process: Process) -> str:
        threads = Path(f"/proc/{process.pid}/task").glob("*/wchan")
        return f"{process.words} does not stop: {[one.read_text() for one in threads]}\n{self.logs()}"

    def stop_workers(self) -> dict[str, int]:
        """SIGTERM to all at once; their exit codes."""
        for worker in self.workers.values():
            worker.signal(15)
        return {name: worker.popen.wait(STOP_SECONDS) for name, worker in self.workers.items()}

    def stop_dispatchers(self) -> dict[str, int]:
        """SIGTERM to each; their exit codes."""
        return {"dispatcher": self.dispatcher.stop()}

    def stored_problems(self) -> list[str]:
        """What does not hold in what the dispatchers stored, when they have stopped."""
        return stored_file.problems(self.database)

    def pid_of(self, victim: str) -> int:
        """The process of a worker or the dispatcher."""
        return self.workers[victim].pid if victim in self.workers else self.dispatcher.pid

    def nothing_left(self) -> None:
        """To be called when all was stopped: no process, no listener, no folder of an instance."""
        wait(lambda: not of_folder(self.folder), f"all processes end: {of_folder(self.folder)}", 3.0)
        assert is_free(self.port)
        assert not self.instance_folders(), f"{self.instance_folders()}\n{self.logs()}"


def _stopped(process: Process) -> bool:
    try:
        process.stop()
    except subprocess.TimeoutExpired:
        return False
    return True


def children_of(worker: Process) -> list[int]:
    """The pids of a worker's children."""
    return children(worker.pid)


def settings_with(base: Mapping[str, str], **changes: str) -> dict[str, str]:
    """Settings with some of them changed."""
    return {**base, **changes}


def free_port() -> int:
    """Outside of the range from which the system takes ports for outgoing connections, so that it stays free while
    the dispatcher is down."""
    while not is_free(port := random.randint(15_000, 30_000)):
        pass
    return port
