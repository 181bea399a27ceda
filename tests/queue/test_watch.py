"""Clients that wait for tasks: each end is counted, those who wait for several are woken once."""

import threading

import pytest

from dispatcher.queue.watch import Watch, Watchers

LONG = 30.0


def waiting(watch: Watch, wanted: int) -> threading.Thread:
    made = threading.Thread(target=watch.wait, args=(wanted, LONG), daemon=True)
    made.start()
    return made


def test_who_waits_for_several_ends_wakes_at_the_last_of_them() -> None:
    watchers = Watchers()
    with watchers.watch([1, 2, 3]) as watch:
        waiter = waiting(watch, 2)
        watchers.ended([1, 99])
        waiter.join(0.05)
        assert waiter.is_alive()
        watchers.ended([3])
        waiter.join(LONG)
        assert not waiter.is_alive()


def test_ends_before_the_wait_count_and_are_forgotten() -> None:
    watchers = Watchers()
    with watchers.watch([1, 2]) as watch:
        watchers.ended([1, 2])
        watch.wait(2, LONG)
        watch.forget()
        waiter = waiting(watch, 1)
        waiter.join(0.05)
        assert waiter.is_alive()
        watchers.ended([1])
        waiter.join(LONG)
        assert not waiter.is_alive()
    assert watchers.watched() == []


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_drain_ends_all_waits(when: str) -> None:
    watchers = Watchers()
    if when == "before":
        watchers.close()
    with watchers.watch([1]) as watch:
        waiter = waiting(watch, 1)
        watchers.close()
        waiter.join(LONG)
        assert not waiter.is_alive()
