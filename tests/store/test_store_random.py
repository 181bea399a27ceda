"""Random lives of a few tasks: whatever happens in whatever order, the invariants hold after every step.

Clients, workers, clocks and the reaper act at random (seeded). A model beside the store knows only two things:
which result each generation's first acknowledged success had, and which leases were handed out.
"""

import random
from collections.abc import Callable

import pytest
from store_kit import DAY, SECOND, Mill, name, waiting

from dispatcher.errors import InstanceDead
from dispatcher.model import FINAL, End, Granted, State, TaskRow
from dispatcher.queue.report import Outcome, Verdict
from dispatcher.store.base import Store

STEPS = 160
LANES = (("q1", "noop"), ("q1", "other"), ("q2", "noop"))


class Life:
    """One random run."""

    def __init__(self, mill: Mill, seed: int) -> None:
        self.mill, self.random = mill, random.Random(seed)
        self.leases: list[tuple[str, Granted, int]] = []
        self.won: dict[tuple[int, int], str] = {}
        self.tasks: list[int] = []
        self.pruned: set[int] = set()
        self.workers = ["ann", "bob", "carl"]
        self.verdicts: set[Verdict] = set()
        self.results = 0

    def step(self) -> None:
        acts: list[tuple[int, Callable[[], object]]] = [
            (5, self.submit), (8, self.claim), (2, self.claim_waiting), (8, self.report), (4, self.heartbeat),
            (4, self.forward), (2, self.jump), (2, self.cancel), (2, self.retry), (2, self.edit), (1, self.die),
            (1, self.prune),
        ]  # fmt: skip
        self.random.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()

    def submit(self) -> None:
        queue, task_type = self.random.choice(LANES)
        self.tasks += self.mill.submit(
            self.random.randint(1, 3), task_type, queue=queue, priority=self.random.randint(0, 2),
            delay_ms=self.random.choice([0, 0, 5000]), max_attempts=self.random.randint(1, 3),
        )  # fmt: skip

    def worker(self) -> str:
        return self.random.choice(self.workers)

    def note(self, worker: str, tasks: object) -> None:
        for lease in tasks:
            self.leases.append((worker, lease, self.mill.row(lease.task_id).generation))

    def claim(self) -> None:
        worker = self.worker()
        self.note(worker, self.mill.claim(worker, self.random.randint(0, 3)).tasks)

    def claim_waiting(self) -> None:
        worker = self.worker()
        later = waiting(self.mill, worker)
        if not later.done:
            self.tasks += self.mill.submit(1, max_attempts=1)
        self.note(worker, later.answer().tasks)

    def report(self) -> None:
        if not self.leases:
            return
        _, lease, generation = self.random.choice(self.leases)
        status = self.random.choice([End.COMPLETED, End.COMPLETED, End.FAILED, End.RELEASED, End.SNOOZED])
        self.results += 1
        result = str(self.results) if status == End.COMPLETED else None
        verdict = self.mill.report(Outcome(name(lease), status, result, error="why", snooze_ms=3000))[0]
        self.verdicts.add(verdict)
        if lease.task_id in self.pruned:
            assert verdict == Verdict.UNKNOWN
        elif verdict in (Verdict.ACCEPTED, Verdict.ACCEPTED_LATE) and result is not None:
            key = (lease.task_id, generation)
            assert key not in self.won, "I4: a second success counted in one generation"
            self.won[key] = result

    def heartbeat(self) -> None:
        worker = self.worker()
        mine = [lease for holder, lease, _ in self.leases if holder == worker]
        self.mill.beat(worker, *[lease for lease in mine if self.random.random() < 0.7])

    def forward(self) -> None:
        self.mill.clock.forward(self.random.choice([1, 4, 11, 61, 121]))
        self.mill.reap()
        self.mill.become_ready()

    def jump(self) -> None:
        self.mill.clock.wall += self.random.choice([-1, 1]) * self.random.choice([SECOND, 60 * SECOND])
        self.mill.become_ready()

    def some(self) -> list[int]:
        return self.random.sample(self.tasks, min(2, len(self.tasks)))

    def cancel(self) -> None:
        self.mill.queue.cancel(self.some())

    def retry(self) -> None:
        self.mill.queue.retry(self.some())

    def edit(self) -> None:
        for task_id in self.some():
            lane = self.mill.store.write(lambda tx: tx.lane(*self.random.choice(LANES)))
            run_at = self.mill.clock.now().wall + self.random.choice([0, 5000])
            self.mill.edit(task_id, {"lane_id": lane, "run_at": run_at, "max_attempts": 2})

    def die(self) -> None:
        """One dies, another adopts, a fresh one takes its place."""
        dead, heir = self.random.sample(self.workers, 2)
        started = [lease for holder, lease, _ in self.leases if holder == dead and self.random.random() < 0.5]
        outbox = started[::2]
        self.mill.die(dead, outbox=outbox, started=started, reporter=heir)
        self.workers[self.workers.index(dead)] = dead + "'"
        self.leases = [(heir if lease in outbox else holder, lease, g) for holder, lease, g in self.leases]
        with pytest.raises(InstanceDead):
            self.mill.beat(dead)

    def prune(self) -> None:
        before = {task["task_id"] for task in self.mill.all_tasks()}
        self.mill.prune(completed_ms=300 * SECOND, failed_ms=300 * SECOND)
        self.pruned |= before - {task["task_id"] for task in self.mill.all_tasks()}
        self.tasks = [task_id for task_id in self.tasks if task_id not in self.pruned]


def check(life: Life) -> None:
    mill = life.mill
    rows: dict[int, TaskRow] = mill.store.write(lambda tx: dict(tx.tasks(life.tasks)))
    assert set(rows) == set(life.tasks), "I1: a task is gone"
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for shown in mill.all_tasks():
        row = rows[shown["task_id"]]
        check_row(life, row, shown)
        numbers = counts.setdefault((shown["queue"], shown["task_type"]), {})
        numbers[row.state.value] = numbers.get(row.state.value, 0) + 1
        if row.ready:
            numbers["ready"] = numbers.get("ready", 0) + 1
    assert mill.counts() == counts


def check_row(life: Life, row: TaskRow, shown: dict[str, object]) -> None:
    assert 0 <= row.attempts <= row.max_attempts, "I6"
    assert (row.state == State.IN_PROGRESS) == (row.lease_expires is not None), "I6"
    assert row.ready == 0 or row.state == State.PENDING
    won = life.won.get((row.id, row.generation))
    assert (row.state == State.COMPLETED) == (won is not None), "I4, I5"
    assert shown["result"] == won, "I4, I5"
    if row.state == State.FAILED:
        assert shown["error"], "I6: failed without a reason"


def settle(life: Life) -> None:
    """I6: nothing is stuck. When all fall silent, everything that is waiting can be taken and everything ends."""
    mill = life.mill
    mill.clock.wall += DAY
    for turn in range(12):
        mill.clock.forward(121)
        mill.reap()
        mill.become_ready()
        for lease in mill.claim(f"last-{turn}", 999).tasks:
            life.won[(lease.task_id, mill.row(lease.task_id).generation)] = "0"
            assert mill.succeed(lease, "0") == Verdict.ACCEPTED
    states = {row.state for row in mill.store.write(lambda tx: tx.tasks(life.tasks)).values()}
    assert states <= FINAL


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 12))])
def test_invariants_hold_through_a_random_life(mill: Mill, store: Store, seed: int) -> None:
    """I1, I2, I4, I5, I6 and the counts."""
    life = Life(mill, seed)
    for _ in range(STEPS):
        life.step()
        check(life)
    settle(life)
    check(life)
