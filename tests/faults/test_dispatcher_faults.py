"""The dispatcher killed, frozen, away, with a jumping clock or a wrong file: no lease suffers (I1, I7, I8)."""

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from farm_faults import end_dispatcher, freeze_dispatcher, kill_dispatcher
from fault_farm import DEATH, GAP, LEASE, SERVES_WITHIN, Farm
from overlapping import overlapping
from patience import slowness
from tcp_proxy import Proxy

SOON = 5.0  # seconds in which everything is done when the fault is over
OUTBOXES_EMPTY_WITHIN = 30.0
AWAY = max(LEASE, DEATH) + 1
COUNTED = 4.0  # seconds in which requests are counted, before an outage and after it
STAMPEDE = 2  # times the normal rate
HOUR, DAY = 3600, 86400


def _all_done_once(farm: Farm, ids: list[int], timeout: float = SOON) -> None:
    """Completed in one attempt and one execution each, with no lease ever lost."""
    ended = farm.results(ids, timeout)
    assert {task["status"] for task in ended.values()} == {"completed"}
    assert {task["attempts"] for task in ended.values()} == {1}, farm.logs()
    runs = farm.runs()
    assert {runs[task["task_data"]["number"]] for task in ended.values()} == {1}
    assert not any(farm.client.task(task_id)["attempts_log"] for task_id in ids[:20])


@overlapping
def test_killed_again_and_again_under_load_it_serves_within_3_s(folder: Path) -> str:
    rng = random.Random(1)
    with Farm(folder) as farm:
        ids = farm.submit_ledger(range(4), seconds=1.5)
        ids += farm.submit_ledger(range(4, 300), seconds=0.01)
        took = []
        for _ in range(5):
            time.sleep(rng.uniform(0.0, 0.4))
            took.append(kill_dispatcher(farm, "", rng))
        _all_done_once(farm, ids, 20)
        return f"a dispatcher killed {len(took)} times serves again after at most {max(took):.2f} s"


@overlapping
def test_frozen_for_longer_than_every_timeout_it_ends_no_lease(folder: Path) -> None:
    with Farm(folder) as farm:
        ids = farm.submit_ledger(range(3), seconds=GAP + 2)
        ids += farm.submit_ledger([3], seconds=1)
        farm.wait_executing(4)
        freeze_dispatcher(farm, max(GAP, LEASE, DEATH) + 1)
        _all_done_once(farm, ids)


@overlapping
def test_frozen_for_a_little_longer_than_the_death_timeout_it_ends_no_lease(folder: Path) -> None:
    """Shorter than the 5 s that count as a gap at the default settings."""
    with Farm(folder, concurrency=4) as farm:
        ids = farm.submit_ledger(range(4), seconds=DEATH + 2.5)
        farm.wait_executing(4)
        freeze_dispatcher(farm, DEATH + 0.5)
        assert DEATH + 0.5 < GAP
        _all_done_once(farm, ids)


@overlapping
def test_away_for_longer_than_every_timeout_it_finds_all_work_done_and_no_stampede(folder: Path) -> str:
    """Long tasks, so that the normal rate is hardly more than that of the heartbeats."""
    return _outage(folder, AWAY, 2.5, 40)


@pytest.mark.long
@overlapping
def test_after_an_outage_amid_short_tasks_there_is_no_stampede(folder: Path) -> str:
    """The normal rate is that of reports which bring the next claims."""
    return _outage(folder, AWAY, 0.25, 260)


def _outage(folder: Path, away: float, seconds: float, count: int) -> str:
    """Four workers with two children each; their requests are counted where they reach the dispatcher."""
    with Farm(folder, workers=0) as farm, Proxy(farm.port) as proxy:
        for number in range(4):
            farm.start_worker(f"worker-{number}", DISPATCHER_URL=proxy.url)
        farm.until(lambda: farm.client.stats()["active_workers"] == 4, "the workers come up")
        ids = farm.submit_ledger([0], seconds=away + COUNTED)
        for number in range(1, count):  # of different lengths, so that their ends do not coincide
            ids += farm.submit_ledger([number], seconds=seconds * random.uniform(0.6, 1.4))
        farm.wait_executing(6)
        time.sleep(COUNTED)  # the normal rate is counted
        normal = len(proxy.arrivals_since(time.monotonic() - COUNTED)) / COUNTED
        end_dispatcher(farm)
        time.sleep(away)
        back = time.monotonic()
        assert farm.start_again() < SERVES_WITHIN * slowness()
        farm.until(farm.outboxes_empty, "all outboxes are empty", OUTBOXES_EMPTY_WITHIN)
        drained = time.monotonic() - back
        farm.until(lambda: time.monotonic() > back + COUNTED, "the first rush is over")
        busiest = _busiest_second(proxy.arrivals_since(back))
        told = f"after an outage of {away:g} s {busiest} requests in the busiest second, {normal:.1f}/s before it"
        assert busiest <= STAMPEDE * normal, f"{told}: {Counter(path for _, path in proxy.arrivals_since(back))}"
        _all_done_once(farm, ids, OUTBOXES_EMPTY_WITHIN)
        return f"{told}; outboxes drained {drained:.1f} s after the start"


def _busiest_second(arrivals: list[tuple[float, str]]) -> int:
    times = [at for at, _ in arrivals]
    return max(sum(at <= other < at + 1 for other in times) for at in times)


@overlapping
def test_no_jump_of_the_wall_clock_ends_a_lease(folder: Path) -> None:
    """Not by libfaketime: under it time.sleep of Python 3.11 and later fails (EINVAL, for the steady clock too)."""
    clock = folder / "clock"
    clock.write_text("0")
    off_clock = {"PYTHONPATH": str(Path(__file__).parent / "clockwork"), "TASKMILL_TEST_CLOCK": str(clock)}
    with Farm(folder, **off_clock) as farm:
        ids = farm.submit_ledger([0], seconds=6)
        for number, off in enumerate((HOUR, -HOUR, DAY, -DAY), 1):
            clock.with_suffix(".new").write_text(str(off))
            clock.with_suffix(".new").rename(clock)
            soon = farm.submit_ledger([number], delay_seconds=0.2)
            farm.results(soon, timeout=SOON)
            ids += soon
            time.sleep(1.1)  # a pass of the reaper
        _all_done_once(farm, ids, 10)


@overlapping
def test_with_a_wrong_file_nothing_is_settled_and_nothing_stopped(folder: Path) -> None:
    with Farm(folder) as farm:
        ids = farm.submit_ledger(range(4), seconds=1)
        ids += farm.submit_ledger(range(4, 8), seconds=0.1)
        farm.wait_executing(4)
        right = farm.env["DB_PATH"]
        end_dispatcher(farm)
        farm.env["DB_PATH"] = str(farm.folder / "wrong.db")
        farm.start_again()
        strangers = farm.submit_ledger([100], seconds=0)
        farm.results(strangers, timeout=10)
        _all_refused_as_foreign(farm)
        assert farm.client.stats()["completed_tasks"] == 1
        end_dispatcher(farm)
        farm.env["DB_PATH"] = right
        farm.start_again()
        _all_done_once(farm, ids, 10)
        farm.until(farm.outboxes_empty, "all outboxes are empty")
        assert farm.client.stats()["completed_tasks"] == len(ids)


def _all_refused_as_foreign(farm: Farm) -> None:
    """Until each worker has heard it; what they keep is theirs."""
    for worker in farm.workers.values():
        farm.until(lambda worker=worker: "foreign" in worker.output(), "the worker hears that its store is another")
    farm.until(lambda: _waiting(farm) >= 4, "all of it is kept")


def _waiting(farm: Farm) -> int:
    """Outcomes without a verdict, by the workers' own word."""
    return sum(worker["metadata"].get("outbox", 0) for worker in farm.client.stats()["workers"])


@pytest.mark.long
@overlapping
def test_a_long_outage_with_many_outcomes_is_made_good(folder: Path) -> None:
    with Farm(folder, workers=4, concurrency=4) as farm:
        ids = farm.submit_ledger(range(16), seconds=2.0)
        ids += farm.submit_ledger(range(16, 4000), seconds=0.001)
        farm.wait_executing(16)
        end_dispatcher(farm)
        time.sleep(30)
        assert farm.start_again() < SERVES_WITHIN * slowness()
        farm.until(farm.outboxes_empty, "all outboxes are empty", OUTBOXES_EMPTY_WITHIN)
        _all_done_once(farm, ids, 30)
