"""The verdict on a run, in the manner of Jepsen's total-queue: what went in must come out, once, and nothing else.

`judge` compares the history with the tasks as the dispatcher shows them after the drain and with the ledger of
executions. Each task carries the number under which it was submitted. A row of figures and a list of problems come out;
an empty list is what a run is for. Executing a task twice is no problem where a lease was lost in between.
"""

import dataclasses
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from history import OK, UNSURE, Execution, History

FINAL = ("completed", "failed", "cancelled")
REASONS_TO_RUN_AGAIN = ("expired", "died", "failed", "superseded", "released", "unlisted", "completed")
HELD_UP = 0.25  # seconds
Task = Mapping[str, Any]
NO_TASK: Task = {"attempts_log": ()}


@dataclass
class Row:
    """The figures of a run, as they are published."""

    seed: str
    faults: int = 0
    operations: int = 0
    attempts: int = 0
    acknowledged: int = 0
    lost: int = 0
    unexpected: int = 0
    completed_twice: int = 0
    executed_twice: int = 0
    unjustified: int = 0
    double_leases: int = 0
    recovered: int = 0
    executions: int = 0
    recovery_p50: float = 0.0
    recovery_p99: float = 0.0
    recovery_max: float = 0.0
    faults_by_name: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.as_dict().items())


class Judge:
    """One judgement; `tasks` as /task/<id> shows them, `before` what was seen of each during the run."""

    def __init__(self, seed: str, history: History, tasks: Sequence[Task], ledger: Sequence[Execution]) -> None:
        self.row = Row(seed)
        self.problems: list[str] = []
        self._history = history
        self._tasks = {task["task_id"]: task for task in tasks}
        self._by_number: dict[int, list[Task]] = defaultdict(list)
        for task in tasks:
            self._by_number[task["task_data"].get("number", -1)].append(task)
        self._runs: dict[int, list[Execution]] = defaultdict(list)
        for one in ledger:
            self._runs[one.task_id].append(one)
        self._cancelling = any(history.of("cancel"))

    def judge(self) -> Row:
        """All checks."""
        self._count()
        self._judge_submits()
        self._judge_executions()
        self._judge_leases()
        self._judge_ends()
        self._judge_cancels()
        self._judge_stability()
        self._judge_recovery()
        return self.row

    def _problem(self, text: str) -> None:
        self.problems.append(text)

    def _count(self) -> None:
        faults = self._history.of("fault")
        self.row.faults, self.row.operations = len(faults), len(self._history.operations)
        self.row.faults_by_name = dict(sorted(Counter(fault.value["name"] for fault in faults).items()))
        self.row.executions = sum(map(len, self._runs.values()))

    def _judge_submits(self) -> None:
        attempted: set[int] = set()
        for submit in self._history.of("submit"):
            numbers = submit.value
            attempted.update(numbers)
            if submit.outcome == OK:
                self._judge_acknowledged(numbers, submit.answer)
            else:
                self._judge_unsure(numbers)
        self.row.attempts = len(attempted)
        strangers = [task["task_id"] for n, tasks in self._by_number.items() if n not in attempted for task in tasks]
        twins = {n: tasks for n, tasks in self._by_number.items() if len(tasks) > 1}
        self.row.unexpected = len(strangers) + len(twins)
        if strangers or twins:
            self._problem(f"unexpected tasks {strangers[:5]}, submitted twice {list(twins)[:5]}")

    def _judge_acknowledged(self, numbers: Sequence[int], ids: Sequence[int]) -> None:
        self.row.acknowledged += len(numbers)
        for number, task_id in zip(numbers, ids, strict=True):
            task = self._tasks.get(task_id)
            if task is None or task["status"] not in FINAL or task["task_data"].get("number") != number:
                self.row.lost += 1
                self._problem(f"lost: number {number}, task {task_id}, now {task and task['status']}")

    def _judge_unsure(self, numbers: Sequence[int]) -> None:
        came = [number for number in numbers if number in self._by_number]
        self.row.recovered += len(came)
        if came and len(came) != len(numbers):
            self._problem(f"a submit of many was stored in part: {len(came)} of {len(numbers)}")

    def _judge_executions(self) -> None:
        for task_id, runs in self._runs.items():
            task = self._tasks.get(task_id)
            if task is None or any(run.number != task["task_data"].get("number") for run in runs):
                self.row.unexpected += 1
                self._problem(f"task {task_id} was executed and is not there, or is another: {runs[:2]}")
            elif len(runs) > 1:
                self.row.executed_twice += 1
                self._judge_repeats(task, runs)

    def _judge_repeats(self, task: Task, runs: Sequence[Execution]) -> None:
        """Each execution but the last needs a lease that was lost; a child that was killed for the sake of a cancelled
        neighbour has its next task begun anew under the same lease."""
        lost = [one for one in task["attempts_log"] if one["outcome"] in REASONS_TO_RUN_AGAIN]
        excess = len(runs) - 1 - len(lost)
        cut_off = sum(run.ended is None for run in runs)
        if excess > 0 and not (self._cancelling and excess <= cut_off):
            self.row.unjustified += 1
            self._problem(f"executed {len(runs)} times without reason: {task['task_id']} {task['attempts_log']} {runs}")

    def _judge_leases(self) -> None:
        """I2: of two leases that end one after the other the second began when the first had ended, unless it is the
        older one, which was taken back. The store notes times as its transaction began: what held it up is HELD_UP."""
        for task in self._tasks.values():
            log = [(_at(one["started_at"]), _at(one["ended_at"])) for one in task["attempts_log"]]
            if log and task["status"] == "completed":
                log.append((_at(task["started_at"]), _at(task["finished_at"])))
            if any(first[0] < second[0] < first[1] - HELD_UP for first, second in pairwise(log)):
                self.row.double_leases += 1
                self._problem(f"I2: two leases of task {task['task_id']} at once: {task['attempts_log']}")

    def _judge_ends(self) -> None:
        for task in self._tasks.values():
            runs = {run.run for run in self._runs[task["task_id"]] if run.ended is not None}
            won = [one for one in task["attempts_log"] if one["outcome"] == "completed"]
            if len(won) > 1:
                self._twice(task, "two attempts are recorded as completed")
            if task["attempts"] > task["max_attempts"]:
                self._problem(f"I6: more attempts than allowed: {task}")
            if task["status"] == "failed" and not task["error"]:
                self._problem(f"I6: failed without a reason: {task}")
            if task["status"] == "completed" and task["result"]["run"] not in runs:
                self._problem(f"I5: a result that no execution brought: {task['task_id']} {runs}")
            if task["status"] not in FINAL:
                self._problem(f"I6: stuck: task {task['task_id']} is {task['status']}")

    def _twice(self, task: Task, why: str) -> None:
        self.row.completed_twice += 1
        self._problem(f"I4, I5: task {task['task_id']}: {why}")

    def _judge_cancels(self) -> None:
        for cancel in self._history.of("cancel", OK):
            for task_id, verdict in cancel.answer.items():
                status = self._tasks[task_id]["status"] if task_id in self._tasks else "gone"
                allowed = {"cancelled": ("cancelled",), "cancel_requested": ("cancelled", "completed")}
                if status not in allowed.get(verdict, FINAL):
                    self._problem(f"task {task_id}: the cancel was answered {verdict}, the task is {status}")

    def _judge_stability(self) -> None:
        """What was once seen completed or cancelled stays so, with the same result."""
        for seen in self._history.of("wait", OK):
            for task_id, (status, run) in seen.answer.items():
                now = self._tasks.get(task_id)
                if status == "failed" or now is None:
                    continue  # a late success may come after losses
                if now["status"] != status or (run and now["result"]["run"] != run):
                    self._twice(now, f"was seen {status} ({run}), is {now['status']} ({now.get('result')})")

    def _judge_recovery(self) -> None:
        """From a fault until the farm had made it good: dispatchers tell themselves, executions that were cut off begin
        again."""
        times = [fault.answer for fault in self._history.of("fault", OK) if fault.answer is not None]
        times += [
            seconds for fault in self._history.of("fault") for seconds in self._restarts(fault.value, fault.began)
        ]
        if times:
            cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
            self.row.recovery_p50, self.row.recovery_p99 = round(cuts[49], 3), round(cuts[98], 3)
            self.row.recovery_max = round(max(times), 3)

    def _restarts(self, fault: Mapping[str, Any], at: int) -> Iterable[float]:
        if not fault["name"].startswith("kill_worker"):
            return
        for task_id, runs in self._runs.items():
            if any(one["outcome"] == "failed" for one in self._tasks.get(task_id, NO_TASK)["attempts_log"]):
                continue  # its child was killed before: it waited for its retry
            for run, following in pairwise(runs):
                if run.ended is None and run.worker_pid == fault["pid"] and run.started < at < following.started:
                    yield (following.started - at) / 1e9


def _at(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def unsure(history: History) -> int:
    """How many operations brought no answer."""
    return sum(one.outcome == UNSURE for one in history.operations)
