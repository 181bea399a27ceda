"""Named faults of a farm with several dispatchers, and a run with them (`farm_faults.py` and `chaos.py` have the rest).

What strikes a dispatcher leaves the others serving; what strikes the database strikes all at once.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress

import psycopg
from chaos import Run
from farm_faults import WORKER, freeze
from fault_farm import DEATH, LEASE
from patience import slowness
from processes import gone, is_free, wait
from several_farm import SeveralFarm

from client import Client

Fault = Callable[[SeveralFarm, str, random.Random], float | None]
LONGEST = max(LEASE, DEATH)
SERVES_WITHIN = 10.0  # times `slowness()`, of the database, or of its start
NOBODY = 2**53 - 1  # no task has this id


# -- a dispatcher --


def kill_dispatcher(farm: SeveralFarm, name: str, rng: random.Random) -> float:
    """kill -9, at once another."""
    _end(farm, name)
    return _served_again(farm, name)


def dispatcher_away(farm: SeveralFarm, name: str, rng: random.Random) -> float:
    """Away for about as long as lease and death timeout, or longer."""
    _end(farm, name)
    time.sleep(rng.uniform(0.3, 1.3) * LONGEST)
    return _served_again(farm, name)


def pause_dispatcher(farm: SeveralFarm, name: str, rng: random.Random) -> None:
    """SIGSTOP, for less than the death timeout."""
    freeze([farm.dispatchers[name].pid], rng.uniform(0.1, 0.9) * DEATH)


def pause_dispatcher_for_long(farm: SeveralFarm, name: str, rng: random.Random) -> None:
    """SIGSTOP, for longer than every lease: the others go on, and it must not make up for lost time."""
    freeze([farm.dispatchers[name].pid], rng.uniform(1.1, 2.0) * LONGEST)


def drain_dispatcher(farm: SeveralFarm, name: str, rng: random.Random) -> float:
    """SIGTERM, and at once another."""
    farm.drain(name)
    return _served_again(farm, name)


def _end(farm: SeveralFarm, name: str) -> None:
    farm.dispatchers[name].kill()
    assert is_free(int(farm.own[name]["DISPATCHER_PORT"]))


def _served_again(farm: SeveralFarm, name: str) -> float:
    seconds = farm.start_one(name)
    assert seconds < SERVES_WITHIN * slowness(), f"{name} served again after {seconds:.1f} s\n{farm.logs()}"
    return seconds


# -- the database --


def kill_backend(farm: SeveralFarm, name: str, rng: random.Random) -> float | None:
    """kill -9 of one of its processes, whatever it does: the server ends all of them and recovers."""
    with closing(psycopg.connect(farm.server.url, autocommit=True)) as witness:
        own = witness.info.backend_pid
        rows = witness.execute("SELECT pid FROM pg_stat_activity WHERE pid != %s ORDER BY pid", (own,)).fetchall()
        victim = rng.choice(rows)[0]
        if gone(victim):
            return None  # it has just ended by itself
        farm.server.kill_backend(victim)
        wait(lambda: gone(victim) and _is_cut(witness), "the server notices", SERVES_WITHIN * slowness())
    farm.server.wait_until_up()
    return _written_again(farm)


def terminate_backend(farm: SeveralFarm, name: str, rng: random.Random) -> None:
    """One session is ended as an operator would."""
    with closing(psycopg.connect(farm.server.url, autocommit=True)) as db:
        ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'taskmill' ORDER BY pid"
        if rows := db.execute(ours).fetchall():
            db.execute("SELECT pg_terminate_backend(%s)", rng.choice(rows))


def restart_database(farm: SeveralFarm, name: str, rng: random.Random) -> float:
    """Stopped as an operator would, and started."""
    farm.server.stop()
    farm.server.start()
    return _written_again(farm)


def database_away(farm: SeveralFarm, name: str, rng: random.Random) -> float:
    """Away for about as long as lease and death timeout, or longer."""
    farm.server.stop()
    time.sleep(rng.uniform(0.3, 1.3) * LONGEST)
    farm.server.start()
    return _written_again(farm)


def _is_cut(db: psycopg.Connection) -> bool:
    with suppress(psycopg.OperationalError):
        db.execute("SELECT 1")
        return False
    return True


def _written_again(farm: SeveralFarm) -> float:
    """The seconds until a dispatcher reads and writes."""
    began = time.monotonic()
    with farm.new_client(retry_seconds=0) as client:
        farm.until(lambda: _works(client), "the database is used again", SERVES_WITHIN * slowness())
    return time.monotonic() - began


def _works(client: Client) -> bool:
    client.stats()
    client.cancel([NOBODY])
    return True


DISPATCHER = (
    kill_dispatcher,
    kill_dispatcher,
    drain_dispatcher,
    dispatcher_away,
    pause_dispatcher,
    pause_dispatcher_for_long,
)
DATABASE = (kill_backend, kill_backend, kill_backend, terminate_backend, restart_database, database_away)


class SeveralRun(Run):
    """A run whose victims are each dispatcher, the database, and each worker."""

    farm: SeveralFarm

    def _victims(self) -> Iterator[tuple[str, Sequence[Fault]]]:
        yield "database", DATABASE
        yield from ((name, DISPATCHER) for name in self.farm.dispatchers)
        yield from ((name, WORKER) for name in self.farm.workers)
