"""Who only waits is seen (`maintenance/attendance.py`): claims that wait stand for heartbeats (mechanism 5)."""

import json
from typing import Any

import pytest
from store_kit import ROUNDS, SECOND, SILENCE_S, Mill, StoreKind, race, waiting

from dispatcher.errors import InstanceDead
from dispatcher.maintenance.attendance import Attendance
from dispatcher.queue import overview, upkeep
from dispatcher.queue.terms import Terms


def note(mill: Mill) -> int:
    """A pass."""
    return Attendance(mill.queue).run_once(mill.clock.now())


def shown(mill: Mill) -> list[dict[str, Any]]:
    """As `GET /workers`."""
    return overview.workers(mill.queue)


def test_a_worker_that_only_waits_stays_alive_and_its_host_is_fresh(mill: Mill) -> None:
    mill.beat("ann", host='{"outbox":1}')
    waiting(mill, "ann", host='{"outbox":2}')
    mill.clock.forward(SILENCE_S + 1)
    assert [one["status"] for one in shown(mill)] == ["dead"]
    assert note(mill) == 1
    (ann,) = shown(mill)
    assert (ann["status"], ann["metadata"]) == ("alive", {"outbox": 2})
    assert mill.beat("ann").taken, "the numbers of heartbeats go on"


def test_a_claim_that_says_nothing_of_its_host_leaves_what_is_known(mill: Mill) -> None:
    mill.beat("ann", host='{"outbox":1}')
    waiting(mill, "ann")
    mill.clock.forward(SILENCE_S + 1)
    note(mill)
    (ann,) = shown(mill)
    assert (ann["status"], ann["metadata"]) == ("alive", {"outbox": 1})


def test_nothing_is_written_while_nobody_waits(mill: Mill, kind: StoreKind) -> None:
    """I10: nor does a wait itself write anything."""
    mill.beat("ann")
    mill.claim("ann")
    before = kind.written(mill.store)
    assert note(mill) == 0
    later = waiting(mill, "ann", host="{}", wait_ms=20)
    later.answer()
    assert note(mill) == 0
    assert kind.written(mill.store) == before


def test_the_dead_stay_dead_and_strangers_strangers(mill: Mill) -> None:
    mill.beat("ann")
    mill.beat("bob", host='{"outbox":1}')
    mill.die("bob")
    mill.clock.forward(5)
    with mill.store.read() as reader:
        before = reader.workers(0)
    mill.store.write(lambda tx: tx.seen_waiting({"i-bob": '{"outbox":2}', "i-eve": "{}"}))
    with mill.store.read() as reader:
        assert reader.workers(0) == before
    with pytest.raises(InstanceDead):
        mill.claim("bob")


def test_an_instance_that_waits_before_its_first_heartbeat_is_not_made(mill: Mill) -> None:
    later = waiting(mill, "ann", host="{}")
    assert note(mill) == 1
    assert shown(mill) == []
    mill.beat("ann")
    mill.clock.forward(SILENCE_S + 1)
    note(mill)
    assert [one["status"] for one in shown(mill)] == ["alive"], "it was parked before it was known"
    mill.one()
    assert later.answer().provisional


def test_a_clock_that_was_set_back_does_not_make_anybody_older(mill: Mill) -> None:
    mill.beat("ann")
    waiting(mill, "ann")
    before = shown(mill)
    mill.clock.wall -= 3600 * SECOND
    note(mill)
    mill.clock.wall += 3600 * SECOND
    assert shown(mill) == before


def test_a_crowd_is_recorded_in_writes_of_bounded_size(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "NOTE_LIMIT", 2)
    for n in range(5):
        mill.beat(f"w-{n}")
        waiting(mill, f"w-{n}", host=json.dumps({"n": n}))
    mill.clock.forward(SILENCE_S + 1)
    assert note(mill) == 5
    assert {(one["worker_id"], one["status"], one["metadata"]["n"]) for one in shown(mill)} == {
        (f"w-{n}", "alive", n) for n in range(5)
    }


def test_after_a_drain_nobody_is_recorded(mill: Mill) -> None:
    mill.beat("ann")
    waiting(mill, "ann")
    mill.queue.drain()
    assert note(mill) == 0


def test_attendance_against_heartbeat_and_death(mill: Mill) -> None:
    for n in range(ROUNDS):
        worker = f"w-{n}"
        mill.beat(worker)
        waiting(mill, worker)
        race(lambda: note(mill), lambda w=worker: mill.beat(w))
        race(lambda: note(mill), lambda w=worker: mill.die(w))
        note(mill)
        with pytest.raises(InstanceDead):
            mill.claim(worker)


@pytest.mark.parametrize(("silence_ms", "wait_ms", "pause_s"), [(60_000, 50_000, 20.0), (3_000, 2_500, 1.0)])
def test_waits_and_passes_come_well_before_the_silence_is_over(
    mill: Mill, silence_ms: int, wait_ms: int, pause_s: float
) -> None:
    mill.queue.terms = Terms(silence_ms=silence_ms)
    assert mill.queue.terms.wait_ms == wait_ms
    assert Attendance(mill.queue).pause() == pause_s
