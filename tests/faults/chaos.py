"""A run: tasks go in, faults strike, then the faults end, everything is drained and judged.

All that chance decides comes from the seed: which faults strike in which order, after which pauses, at whom, and what
is submitted. What the processes make of it is theirs, so a replay meets the same weather, not the same instant.
"""

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from checker import FINAL, Judge, Row
from farm_faults import DISPATCHER, WORKER, Fault
from fault_farm import Farm
from history import OK, Execution, History

from client import Client, StillOpen

PATIENCE = 6


@dataclass(frozen=True)
class Plan:
    """How hard a run is. Each worker has faults of its own, and so has the dispatcher; between two of one victim lies a
    pause."""

    seconds: float
    tasks: int
    workers: int = 3
    least_pause: float = 0.1
    longest_pause: float = 1.0
    drain_seconds: float = 60.0
    largest_submit: int = 50
    least: int = 0  # acknowledged tasks


class Run:
    """One run on one farm."""

    def __init__(self, farm: Farm, seed: str, plan: Plan) -> None:
        self.farm, self.seed, self.plan = farm, seed, plan
        self.history = History()
        self._numbers = iter(range(plan.tasks))
        self._number_lock = threading.Lock()
        self._stop = threading.Event()
        self._ids: list[int] = []

    def play(self) -> tuple[Row, list[str]]:
        """All of it; the figures and the problems."""
        lanes = [lambda name=name, faults=faults: self._strike(name, faults) for name, faults in self._victims()]
        loads = [
            lambda: self._submit_single(),
            lambda: self._submit_bulk(),
            lambda: self._cancel(),
            lambda: self._watch(),
        ]
        with ThreadPoolExecutor(len(lanes) + len(loads)) as pool:
            others = [pool.submit(load) for load in loads]
            faults = [pool.submit(lane) for lane in lanes]
            wait(faults)
            self._stop.set()
            for future in [*faults, *others]:
                future.result()
        self._drain()
        return self._judge()

    def _random(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")

    # -- faults --

    def _victims(self) -> Iterator[tuple[str, Sequence[Fault]]]:
        yield "dispatcher", DISPATCHER
        yield from ((name, WORKER) for name in self.farm.workers)

    def _strike(self, victim: str, faults: Sequence[Fault]) -> None:
        rng, deadline = self._random(victim), time.monotonic() + self.plan.seconds
        while not self._stop.wait(rng.uniform(self.plan.least_pause, self.plan.longest_pause)):
            if self._is_over(deadline):
                return
            strike = rng.choice(faults)
            hit = {"name": strike.__name__, "victim": victim, "pid": self.farm.pid_of(victim)}
            with self.history.operation("fault", hit) as fault:
                fault.answer = strike(self.farm, victim, rng)

    def _is_over(self, deadline: float) -> bool:
        """On a slow machine the faults go on until enough was acknowledged, for `PATIENCE` times as long at most."""
        late = time.monotonic() - deadline
        return late > (0 if len(self._ids) >= self.plan.least else (PATIENCE - 1) * self.plan.seconds)

    # -- load --

    def _submit_single(self) -> None:
        rng = self._random("single")
        with self.farm.new_client(retry_seconds=0) as client:
            for tasks in self._portions(rng, lambda: 1):
                key, value = f"{self.seed}-{tasks[0]['number']}", tasks[0]
                with self.history.operation("submit", [value["number"]]) as submit:
                    task_id = client.submit("ledger", value, max_attempts=_attempts(value), idempotency_key=key)
                    self._acknowledged(submit, [task_id])
                if submit.outcome != OK:
                    self._stop.wait(0.2)

    def _submit_bulk(self) -> None:
        rng = self._random("bulk")
        patient, hasty = self.farm.new_client(), self.farm.new_client(retry_seconds=0)
        with patient, hasty:
            for tasks in self._portions(rng, lambda: rng.randint(2, self.plan.largest_submit)):
                client = rng.choice([patient, patient, patient, hasty])
                with self.history.operation("submit", [task["number"] for task in tasks]) as submit:
                    bodies = [
                        {"task_type": "ledger", "task_data": task, "max_attempts": _attempts(task)} for task in tasks
                    ]
                    self._acknowledged(submit, client.submit_many(bodies))

    def _portions(self, rng: random.Random, size: Callable[[], int]) -> Iterator[list[dict[str, Any]]]:
        """Tasks to submit, spread over the time of the faults."""
        rate = self.plan.tasks / self.plan.seconds / 2  # of each of the two submitters
        while not self._stop.is_set():
            with self._number_lock:
                portion = [number for _, number in zip(range(size()), self._numbers, strict=False)]
            if not portion:
                return
            yield [_data(rng, number) for number in portion]
            self._stop.wait(rng.expovariate(rate / len(portion)))

    def _acknowledged(self, submit: Any, ids: list[int]) -> None:
        submit.answer = ids
        self._ids += ids

    def _cancel(self) -> None:
        rng = self._random("cancel")
        with self.farm.new_client(retry_seconds=0) as client:
            while not self._stop.wait(rng.uniform(0.1, 0.5)):
                chosen = self._some(rng, 3)
                with self.history.operation("cancel", chosen) as cancel:
                    cancel.answer = client.cancel(chosen) if chosen else {}

    def _watch(self) -> None:
        """Looks at results while they come, to see whether they stay."""
        rng = self._random("watch")
        with self.farm.new_client() as client:
            while not self._stop.wait(0.05):
                self._look(client, self._some(rng, 20))

    def _look(self, client: Client, chosen: list[int]) -> None:
        with self.history.operation("wait", chosen) as seen:
            seen.answer = {}
            try:
                for task in client.results(chosen, timeout=0.5):
                    seen.answer[task["task_id"]] = (
                        task["status"],
                        (_with_result(client, task)["result"] or {}).get("run"),
                    )
            except StillOpen:
                pass

    def _some(self, rng: random.Random, count: int) -> list[int]:
        newest = self._ids[-200:]
        return rng.sample(newest, min(count, len(newest)))

    # -- the end --

    def _drain(self) -> None:
        """Faults are off: the rest is submitted, everything runs to its end."""
        farm = self.farm
        for name, worker in farm.workers.items():
            assert worker.popen.poll() is None, f"{name} has ended\n{farm.logs()}"
        deadline = time.monotonic() + self.plan.drain_seconds
        open_states = ("pending_tasks", "in_progress_tasks", "blocked_tasks")
        while any(farm.client.stats()[state] for state in open_states) and time.monotonic() < deadline:
            time.sleep(0.05)
        farm.until(farm.outboxes_empty, "all outboxes are empty", self.plan.drain_seconds)
        alone = len(farm.workers)
        farm.until(lambda: len(farm.instance_folders()) == alone, "all deaths are settled", self.plan.drain_seconds)

    def _judge(self) -> tuple[Row, list[str]]:
        farm = self.farm
        tasks = self._all_tasks()
        self._look(farm.client, [task["task_id"] for task in tasks if task["status"] in FINAL])
        problems = self._compare_counts(tasks)
        codes = farm.stop_workers() | farm.stop_dispatchers()
        if any(codes.values()):
            problems.append(f"processes ended with {codes}")
        farm.start_again()
        judge = Judge(self.seed, self.history, self._all_tasks(), farm.executions())
        row = judge.judge()
        assert not any(farm.stop_dispatchers().values())
        farm.nothing_left()
        return row, problems + judge.problems + farm.stored_problems()

    def _all_tasks(self) -> list[dict[str, Any]]:
        """Every task with its result; with the ends of its leases where there was more than a single success."""
        client, runs = self.farm.client, self.farm.runs()
        tasks = []
        for task in client.tasks():
            plain = task["status"] == "completed" and task["attempts"] == 1 == runs[task["task_data"]["number"]]
            log = [] if plain else client.task(task["task_id"])["attempts_log"]
            tasks.append({**_with_result(client, task), "attempts_log": log})
        return tasks

    def _compare_counts(self, tasks: list[dict[str, Any]]) -> list[str]:
        stats = self.farm.client.stats()
        counted = {state: sum(task["status"] == state for task in tasks) for state in FINAL}
        told = {state: stats[f"{state}_tasks"] for state in FINAL}
        return [] if counted == told else [f"/stats says {told}, /tasks {counted}"]


def _data(rng: random.Random, number: int) -> dict[str, Any]:
    """A task: most are short and small; some are slow, some large enough to be uploaded, some fail."""
    seconds = rng.choice([0.0, 0.001, 0.005, 0.005, 0.01, 0.01, 0.02, rng.uniform(0.0, 0.3)])
    data: dict[str, Any] = {"number": number, "seconds": round(seconds, 4)}
    if rng.random() < 0.01:
        data["bytes"] = 300_000
    if rng.random() < 0.01:
        data["fail"] = True
    return data


def _attempts(data: dict[str, Any]) -> int:
    return 1 if data.get("fail") else 10


def _with_result(client: Client, task: dict[str, Any]) -> dict[str, Any]:
    """A task as a list shows it, its uploaded result fetched."""
    done = task["status"] == "completed"
    return {**task, "result": client.result_of(task) if done else None}


def report(row: Row, history: History, ledger: list[Execution]) -> None:
    """Appends the row to the file that TASKMILL_FAULT_REPORT names, and puts the raw history beside it."""
    if path := os.environ.get("TASKMILL_FAULT_REPORT"):
        with Path(path).open("a") as file:
            file.write(json.dumps(row.as_dict()) + "\n")
        with Path(f"{path}.{row.seed}.history").open("w") as file:
            for one in [*history.operations, *ledger]:
                file.write(json.dumps(one._asdict() if isinstance(one, Execution) else asdict(one)) + "\n")
