"""Clients that wait for tasks: each end is counted, those who wait for several are woken once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from dispatcher.queue.watch import Watchers

LONG = 30.0


def test_who_waits_for_several_ends_is_woken_by_the_last_of_them() -> None:
    watchers = Watchers()
    with watchers.watch([1, 2, 3]) as watch, ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(watch.wait, 2, LONG)
        watchers.ended([1, 99])
        watchers.ended([3])
        assert waiter.result(LONG)


def test_one_end_of_two_is_not_enough() -> None:
    watchers = Watchers()
    with watchers.watch([1, 2]) as watch:
        watchers.ended([1])
        assert not watch.wait(2, 0)
        assert watch.wait(1, 0)


def test_ends_before_the_wait_count_until_they_are_forgotten() -> None:
    watchers = Watchers()
    with watchers.watch([1, 2]) as watch:
        watchers.ended([1, 2])
        assert watch.wait(2, 0)
        watch.forget()
        assert not watch.wait(1, 0)
        watchers.ended([1])
        assert watch.wait(1, 0)
    assert watchers.watched() == []


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_drain_ends_all_waits(when: str) -> None:
    watchers = Watchers()
    if when == "before":
        watchers.close()
    with watchers.watch([1]) as watch, ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(watch.wait, 1, LONG)
        watchers.close()
        assert waiter.result(LONG)
