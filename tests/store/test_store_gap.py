"""The gap rule and the clocks: neither a clock nor the dispatcher's own absence ends a lease (mechanism 2)."""

from pathlib import Path

import pytest
from store_kit import (
    DAY,
    LEASE_S,
    PROVISIONAL_S,
    SECOND,
    SILENCE_S,
    FakeClock,
    Later,
    MakeStore,
    Mill,
    StoreKind,
    failing_commits,
    held_up,
    until,
    waiting,
)

from dispatcher.errors import Unavailable
from dispatcher.maintenance.reaper import Reaper
from dispatcher.model import State
from dispatcher.store.base import Store

GAP_S = 5


def one_pass(mill: Mill) -> int:
    return mill.reaper.run_once(mill.clock.now())


def passes(mill: Mill, seconds: float, step: float = 1.0) -> int:
    """Passes of the reaper, one each second; how many leases ended."""
    ended = 0
    for _ in range(int(seconds / step)):
        mill.clock.forward(step)
        ended += one_pass(mill)
    return ended


def test_passes_without_a_gap_end_leases_in_time(mill: Mill) -> None:
    one_pass(mill)
    mill.one()
    mill.lease()
    assert passes(mill, LEASE_S - 1) == 0
    assert passes(mill, 1) == 1


def test_five_seconds_are_no_gap_and_more_are(mill: Mill) -> None:
    one_pass(mill)
    mill.submit(2)
    mill.lease()
    passes(mill, LEASE_S - GAP_S)
    lease = mill.lease()
    mill.told("ann", lease)
    mill.clock.forward(GAP_S)
    assert one_pass(mill) == 1, "exactly five seconds are none"
    mill.clock.forward(SILENCE_S)
    assert one_pass(mill) == 0, "after a gap nothing ends"


def test_after_a_gap_every_lease_gets_its_full_length(mill: Mill) -> None:
    one_pass(mill)
    mill.submit(2)
    silent, heard = mill.claim(max_tasks=2).tasks
    mill.told("ann", heard)
    mill.clock.forward(10 * LEASE_S)
    assert one_pass(mill) == 0
    now = mill.clock.now().steady
    assert mill.row(silent.task_id).lease_expires == now + LEASE_S * SECOND
    assert mill.row(heard.task_id).lease_expires == now + SILENCE_S * SECOND


def test_after_a_gap_a_provisional_lease_gets_at_least_the_silence_time(mill: Mill) -> None:
    later = waiting(mill)
    one_pass(mill)
    mill.one()
    (lease,) = later.answer().tasks
    mill.clock.forward(GAP_S + 1)
    one_pass(mill)
    assert mill.row(lease.task_id).lease_expires == mill.clock.now().steady + SILENCE_S * SECOND


def test_on_start_every_lease_gets_its_full_length(mill: Mill) -> None:
    mill.one()
    lease = mill.lease()
    mill.clock.forward(10 * LEASE_S)
    assert Reaper(mill.queue).run_once(mill.clock.now()) == 0
    assert mill.row(lease.task_id).lease_expires == mill.clock.now().steady + LEASE_S * SECOND


@pytest.mark.parametrize("shift", [-DAY, 0, DAY])
def test_restart_neither_ends_a_lease_nor_keeps_it_for_ever(
    make_store: MakeStore, tmp_path: Path, clock: FakeClock, shift: int
) -> None:
    """The steady clock starts anew from the wall clock, which may have been set meanwhile."""
    store = make_store(tmp_path, clock)
    first = Mill(store, clock)
    first.one()
    lease = first.lease()
    store.close()
    clock.forward(1)
    clock.wall += shift
    clock.steady += shift
    mill = Mill(make_store(tmp_path, clock), clock)
    assert one_pass(mill) == 0
    assert passes(mill, LEASE_S - 4, step=4) == 0
    assert mill.state(lease.task_id) == State.IN_PROGRESS
    assert passes(mill, 4) == 1


def test_clock_set_back_under_a_running_dispatcher_keeps_no_lease_for_ever(mill: Mill) -> None:
    """The database's clock is the lease clock of several dispatchers, and may be set."""
    one_pass(mill)
    mill.one()
    lease = mill.lease()
    passes(mill, 2)
    mill.clock.steady -= DAY
    assert one_pass(mill) == 0
    assert mill.row(lease.task_id).lease_expires == mill.clock.now().steady + LEASE_S * SECOND


def test_idle_dispatcher_still_ends_a_provisional_lease_after_ten_seconds(mill: Mill) -> None:
    later = waiting(mill)
    assert passes(mill, 30) == 0
    mill.one()
    (lease,) = later.answer().tasks
    assert passes(mill, PROVISIONAL_S - 1) == 0
    assert passes(mill, 1) == 1
    assert mill.row(lease.task_id).attempts == 0


def test_failed_passes_make_a_gap(mill: Mill) -> None:
    """A full disk, a store that is away: a pass succeeds only if its write was committed."""
    one_pass(mill)
    mill.one()
    lease = mill.lease()
    with failing_commits(mill.store):
        for _ in range(LEASE_S // 4):
            mill.clock.forward(4)
            with pytest.raises(Unavailable):
                one_pass(mill)
    assert one_pass(mill) == 0
    assert mill.told("ann", lease) == "ok"


def test_gap_that_opens_while_the_pass_waits_for_the_writer_counts(mill: Mill, store: Store) -> None:
    """Suspended between the reaper's look at the clock and its transaction: the transaction's own time decides."""
    one_pass(mill)
    mill.one()
    mill.lease()
    mill.clock.forward(1)
    one_pass(mill)
    now = mill.clock.now()
    with held_up(store):
        queued = store._writer._calls.qsize  # type: ignore[attr-defined]
        late = Later(lambda: mill.reaper.run_once(now))
        until(lambda: queued() or late.done)
        mill.clock.forward(10 * LEASE_S)
    assert late.answer() == 0


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_wall_clock_jumps_end_nothing_and_lose_nothing(mill: Mill, jump: int) -> None:
    one_pass(mill)
    task_id = mill.one()
    waits = mill.one(priority=-1)
    lease = mill.lease()
    mill.clock.wall += jump
    assert passes(mill, SILENCE_S) == 0
    assert mill.told("ann", lease) == "ok"
    assert mill.lease("bob").task_id == waits
    assert mill.succeed(lease) == "accepted"
    assert mill.state(task_id) == State.COMPLETED
    new = mill.one()
    assert mill.lease("carl").task_id == new


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_run_at_follows_the_wall_clock(mill: Mill, jump: int) -> None:
    task_id = mill.one(delay_ms=3600 * SECOND)
    mill.clock.wall += jump
    assert mill.become_ready() == (1 if jump > 0 else 0)
    assert mill.row(task_id).ready == (1 if jump > 0 else 0)


def test_steady_time_alone_makes_nothing_due(mill: Mill) -> None:
    mill.one(delay_ms=5 * SECOND)
    mill.clock.steady += DAY
    assert mill.become_ready() == 0


def test_reaper_without_leases_writes_nothing(mill: Mill, kind: StoreKind, store: Store) -> None:
    """I10 in spirit: an idle dispatcher leaves its disk alone."""
    mill.one()
    before = kind.written(store)
    passes(mill, 10)
    assert kind.written(store) == before


def test_reaper_with_leases_writes_each_pass(mill: Mill, kind: StoreKind, store: Store) -> None:
    mill.one()
    mill.lease()
    before = kind.written(store)
    one_pass(mill)
    assert kind.written(store) > before
