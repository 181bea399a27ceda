"""Named faults: each is done to a running farm and undone again; the farm is to bear it.

A fault takes the farm, the name of the worker it is about (of no meaning to those of the dispatcher) and a seeded
random.Random. It returns the seconds that the farm took to serve again, where that is its own affair, else None.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from fault_farm import DEATH, LEASE, SERVES_WITHIN, Farm, children_of
from patience import slowness
from processes import gone, is_free, is_unlocked, of_folder, wait

Fault = Callable[[Farm, str, random.Random], float | None]
ORPHANS_GONE_WITHIN = 1.0
DRAINS_WITHIN = 25.0  # times `slowness()`; a worker whose last words nobody answers waits a few times for 5 s


# -- the dispatcher --


def kill_dispatcher(farm: Farm, name: str, rng: random.Random) -> float:
    """kill -9 of its one process, at once another; nothing of it is left behind."""
    end_dispatcher(farm)
    return _served_again(farm)


def dispatcher_away(farm: Farm, name: str, rng: random.Random) -> float:
    """Away for about as long as lease and death timeout, or longer."""
    end_dispatcher(farm)
    time.sleep(rng.uniform(0.3, 1.3) * max(LEASE, DEATH))
    return _served_again(farm)


def pause_dispatcher(farm: Farm, name: str, rng: random.Random) -> float | None:
    """SIGSTOP, for less than the death timeout."""
    freeze_dispatcher(farm, rng.uniform(0.1, 0.6) * DEATH)
    return None


def drain_dispatcher(farm: Farm, name: str, rng: random.Random) -> float:
    """SIGTERM, and at once another."""
    assert farm.dispatcher.stop() == 0
    return _served_again(farm)


def end_dispatcher(farm: Farm) -> None:
    """kill -9; what it held is free."""
    farm.dispatcher.kill()
    assert not [one for one in of_folder(farm.folder) if " dispatcher" in one[1]]
    assert is_free(farm.port)
    assert is_unlocked(farm.database.with_name("queue.db.lock"))


def freeze_dispatcher(farm: Farm, seconds: float) -> None:
    """SIGSTOP, SIGCONT."""
    farm.dispatcher.signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        farm.dispatcher.signal(signal.SIGCONT)


def _served_again(farm: Farm) -> float:
    seconds = farm.start_again()
    assert seconds < SERVES_WITHIN * slowness(), f"the dispatcher served again after {seconds:.1f} s\n{farm.logs()}"
    return seconds


# -- workers --


def kill_worker(farm: Farm, name: str, rng: random.Random) -> None:
    """kill -9 of the supervisor alone; its children follow within a second."""
    end_worker(farm, name)
    _start_later(farm, name, rng)


def kill_worker_and_children(farm: Farm, name: str, rng: random.Random) -> None:
    """kill -9 of everything of a worker."""
    end_all(farm, name)
    _start_later(farm, name, rng)


def kill_child(farm: Farm, name: str, rng: random.Random) -> None:
    """kill -9 of one child."""
    children = children_of(farm.workers[name])
    if children:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(children), signal.SIGKILL)


def pause_worker(farm: Farm, name: str, rng: random.Random) -> None:
    """SIGSTOP of the supervisor alone, now and then beyond its leases; its children go on."""
    freeze([farm.workers[name].pid], rng.uniform(0.1, 1.5) * LEASE)


def pause_worker_and_children(farm: Farm, name: str, rng: random.Random) -> None:
    """SIGSTOP of everything of a worker, like a suspended machine."""
    worker = farm.workers[name]
    freeze([worker.pid, *children_of(worker)], rng.uniform(0.1, 1.5) * LEASE)


def drain_worker(farm: Farm, name: str, rng: random.Random) -> None:
    """SIGTERM, and another under the same name."""
    drain(farm, name, 1)
    _start_later(farm, name, rng)


def hurry_worker(farm: Farm, name: str, rng: random.Random) -> None:
    """SIGTERM twice: what runs is handed back."""
    drain(farm, name, 2, rng.uniform(0.0, 0.1))
    _start_later(farm, name, rng)


def end_worker(farm: Farm, name: str) -> float:
    """kill -9 of the supervisor; its children end by themselves, at once: after how many seconds."""
    worker = farm.workers[name]
    children = children_of(worker)
    worker.kill()
    return wait(lambda: all(map(gone, children)), f"the children {children} of {name} end", ORPHANS_GONE_WITHIN)


def end_all(farm: Farm, name: str) -> None:
    """kill -9 of a supervisor and of each of its children."""
    _signal_all([farm.workers[name].pid, *children_of(farm.workers[name])], signal.SIGKILL)
    end_worker(farm, name)


def drain(farm: Farm, name: str, signals: int, between: float = 0.0) -> None:
    """So many SIGTERM to a worker that is up; it ends well."""
    farm.until(lambda: farm.is_up(name), f"{name} is up")
    worker = farm.workers[name]
    for number in range(signals):
        time.sleep(between if number else 0.0)
        worker.signal(signal.SIGTERM)
    code = worker.popen.wait(DRAINS_WITHIN * slowness())
    assert code == 0, f"{name} ended with {code}\n{worker.output()[-3000:]}"


def freeze(pids: list[int], seconds: float) -> None:
    """SIGSTOP, SIGCONT of some processes."""
    _signal_all(pids, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        _signal_all(pids, signal.SIGCONT)


def _signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _start_later(farm: Farm, name: str, rng: random.Random) -> None:
    time.sleep(rng.choice([0.0, 0.0, rng.uniform(0.0, 1.5)]))
    farm.start_worker(name)


DISPATCHER = (kill_dispatcher, kill_dispatcher, kill_dispatcher, dispatcher_away, pause_dispatcher, drain_dispatcher)
WORKER = (
    kill_worker,
    kill_worker,
    kill_worker_and_children,
    kill_child,
    pause_worker,
    pause_worker_and_children,
    drain_worker,
    hurry_worker,
)
