"""Poison through dispatcher and worker: each ends with its reason, the neighbours feel nothing (I9)."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fault_farm import Farm, children_of
from overlapping import overlapping
from processes import of_folder

KILL_GRACE = 3.0  # seconds that a handler has after it was told to stop


class Poison(NamedTuple):
    """What a task does, and a part of the reason with which it fails; None: it completes with this result."""

    data: dict[str, Any]
    reason: str | None
    result: Any = None
    timeout: float | None = None


POISONS = [
    Poison({"how": "segfault"}, "SIGSEGV"),
    Poison({"how": "exit"}, "exited with code 3"),
    Poison({"how": "abort"}, "SIGABRT"),
    Poison({"how": "kill"}, "SIGKILL"),
    Poison({"how": "loop"}, "timed out after 0.5 s", timeout=0.5),
    Poison({"how": "deaf"}, "timed out after 0.5 s", timeout=0.5),
    Poison({"how": "blow up"}, "MemoryError"),
    Poison({"how": "flood", "megabytes": 100}, None, "dry"),
    Poison({"how": "giant", "megabytes": 70}, "the result is too large: 73400320 bytes, the limit is 67108864"),
    Poison({"how": "nan"}, "deep[1]"),
    Poison({"how": "surrogate"}, "[1]"),
    Poison({"how": "object"}, "it"),
    Poison({"how": "generator"}, "generator"),
    Poison({"how": "huge integer"}, None, {"n": 2**70}),
]
LONG_POISONS = [
    Poison({"how": "flood", "megabytes": 1024}, None, "dry"),
    Poison({"how": "giant", "megabytes": 1024}, "the result is too large"),
]


def _give(farm: Farm, poisons: list[Poison]) -> list[int]:
    return farm.client.submit_many(
        {"task_type": "poison", "task_data": one.data, "max_attempts": 1, "timeout_seconds": one.timeout}
        for one in poisons
    )


def _judge(farm: Farm, poisons: list[Poison], ids: list[int], timeout: float) -> None:
    ended = farm.results(ids, timeout)
    for task_id, poison in zip(ids, poisons, strict=True):
        task = ended[task_id]
        if poison.reason is None:
            assert (task["status"], task.get("result")) == ("completed", poison.result), task
        else:
            assert (task["status"], poison.reason in task["error"]) == ("failed", True), task
        assert task["attempts"] == 1


def _poisoned_farm(folder: Path, poisons: list[Poison], timeout: float) -> None:
    with Farm(folder, workers=1, concurrency=3, WORKER_DEATH_TIMEOUT="60", DEFAULT_LEASE_DURATION="120") as farm:
        worker = farm.workers["worker-1"]
        poisoned = _give(farm, poisons)
        neighbours = farm.submit_ledger(range(200), seconds=0.01)
        _judge(farm, poisons, poisoned, timeout)
        ended = farm.results(neighbours)
        assert {(task["status"], task["attempts"]) for task in ended.values()} == {("completed", 1)}
        assert worker.popen.poll() is None
        farm.until(lambda: len(children_of(worker)) == 3, "every slot has its child")
        strangers = [one for one in of_folder(farm.folder) if one[0] not in _known(farm)]
        assert not strangers
        assert "last words" in farm.client.task(poisoned[0])["error"]


def _known(farm: Farm) -> set[int]:
    worker = farm.workers["worker-1"]
    return {farm.dispatcher.pid, worker.pid, *children_of(worker)}


@overlapping
def test_poison_fails_with_its_reason_and_disturbs_nobody(folder: Path) -> None:
    _poisoned_farm(folder, POISONS, 30)


@pytest.mark.long
@overlapping
def test_a_gigabyte_of_output_or_of_result_disturbs_nobody(folder: Path) -> None:
    _poisoned_farm(folder, [POISONS[0], *LONG_POISONS], 120)
