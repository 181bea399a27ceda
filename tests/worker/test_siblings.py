"""Death, known for certain: what a dead instance left is taken over by one sibling, reported, delivered, dropped."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from doubles import STORE, Bench, outcome, refusal, silence, wait_until

from common.settings import ROOT
from worker import instance
from worker.instance import Instance
from worker.siblings import Siblings, open_outbox

# A worker that noted three started leases, has two outcomes in its outbox, and is then killed.
VICTIM = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from doubles import STORE, outcome
from worker import instance
from worker.siblings import open_outbox
made = instance.create(Path(sys.argv[1]), "lab-9")
made.note_store(STORE)
made.note_started(["1-1", "2-1", "3-1"], list)
open_outbox(made).put([outcome(1), outcome(2)])
print(made.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def bench(cache: Path) -> Bench:
    own = instance.create(cache, "lab-1")
    made = Bench(own.folder, cache_ttl_seconds=3600, cache_retry_interval=20)
    object.__setattr__(made.settings, "cache_dir", cache)
    made.own = own  # type: ignore[attr-defined]
    made.leases.store_id = STORE
    return made


def siblings_of(bench: Bench) -> Siblings:
    return Siblings(bench.settings, bench.link, bench.leases, bench.reporter, clock=bench.clock)


def left_behind(cache: Path, *task_ids: int, stores: tuple[str, ...] = (STORE,)) -> Instance:
    """A dead instance with these outcomes in its outbox."""
    made = instance.create(cache, "lab-9")
    for store_id in stores:
        made.note_store(store_id)
    outbox = open_outbox(made)
    for one in task_ids:
        outbox.put([outcome(one)])
    outbox.close()
    made.leave()
    return made


def deaths(bench: Bench) -> list[Any]:
    return bench.dispatcher.bodies("/report-death")


def test_a_killed_worker_is_reported_delivered_and_dropped(bench: Bench, cache: Path) -> None:
    command = [sys.executable, "-c", VICTIM, str(cache), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as victim:
        assert victim.stdout
        folder = Path(victim.stdout.readline().strip())
        siblings = siblings_of(bench)
        siblings.step()
        assert deaths(bench) == [], "it lives"
        victim.kill()
        victim.wait()
    siblings.step()
    assert deaths(bench) == [
        {
            "store_id": STORE,
            "worker_id": "lab-1",
            "instance_id": "instance-1",
            "dead_worker_id": "lab-9",
            "dead_instance_id": folder.name,
            "outbox_leases": ["1-1", "2-1"],
            "started_leases": ["3-1"],
        }
    ]
    listed = [entry["lease_id"] for entry in bench.leases.listings()[0].entries]
    assert listed == ["1-1", "2-1"], "the adopter lists them"
    bench.steps()
    assert bench.dispatcher.delivered == ["1-1", "2-1"]
    siblings.step()
    assert not folder.exists()
    assert bench.leases.idle()


def test_the_folder_stays_until_the_death_is_answered_and_the_outbox_empty(bench: Bench, cache: Path) -> None:
    dead = left_behind(cache, 1)
    siblings = siblings_of(bench)
    bench.dispatcher.answers["/report-death"] = silence
    for _ in range(3):
        siblings.step()
        bench.steps()
        bench.clock.now += 40
    assert len(deaths(bench)) == 3
    assert bench.dispatcher.delivered == []
    bench.dispatcher.answers["/report-death"] = lambda body: {"verdict": "recorded"}
    bench.dispatcher.answers["/submit-results"] = silence
    siblings.step()
    bench.steps()
    siblings.step()
    assert dead.folder.exists()
    bench.dispatcher.answers["/submit-results"] = bench.dispatcher.accept
    bench.reporter.retry_now()
    bench.steps()
    siblings.step()
    assert not dead.folder.exists()
    assert bench.dispatcher.delivered == ["1-1"]


@pytest.mark.parametrize("status", [401, 403, 409, 429, 500, 503])
def test_a_refused_report_of_a_death_is_repeated(bench: Bench, cache: Path, status: int) -> None:
    dead = left_behind(cache)
    bench.dispatcher.answers["/report-death"] = refusal(status)
    siblings = siblings_of(bench)
    for _ in range(3):
        siblings.step()
        bench.clock.now += 40
    assert len(deaths(bench)) == 3
    assert dead.folder.exists()


def test_two_siblings_race_and_one_wins(bench: Bench, cache: Path) -> None:
    left_behind(cache, 1)
    first, second = siblings_of(bench), siblings_of(bench)
    assert [first.look(), second.look(), first.look()] == [1, 0, 0]


def test_when_the_adopter_ends_the_next_one_takes_over(bench: Bench, cache: Path) -> None:
    left_behind(cache, 1)
    first, second = siblings_of(bench), siblings_of(bench)
    first.look()
    first.leave()
    assert second.look() == 1


def test_another_store_keeps_everything_and_is_asked_slowly(bench: Bench, cache: Path) -> None:
    dead = left_behind(cache, stores=("old",))
    bench.dispatcher.answers["/report-death"] = lambda body: {"verdict": "foreign"}
    siblings = siblings_of(bench)
    for _ in range(40):
        siblings.step()
        bench.steps()
        bench.clock.now += 1
    assert len(deaths(bench)) == 2
    assert deaths(bench)[0]["store_id"] == "old"
    assert dead.folder.exists()
    bench.dispatcher.answers["/report-death"] = lambda body: {"verdict": "recorded"}
    bench.clock.now += 20
    siblings.step()
    assert not dead.folder.exists()


def test_what_no_store_takes_for_an_hour_goes_to_quarantine(bench: Bench, cache: Path) -> None:
    dead = left_behind(cache, stores=("old",))
    bench.dispatcher.answers["/report-death"] = lambda body: {"verdict": "foreign"}
    siblings = siblings_of(bench)
    for _ in range(3):
        siblings.step()
        bench.steps()
        bench.clock.now += 2000
    assert not dead.folder.exists()
    assert (dead.quarantine / dead.folder.name).is_dir()
    assert siblings.look() == 0


def test_each_store_and_each_name_is_told(bench: Bench, cache: Path) -> None:
    dead = left_behind(cache, stores=("old", STORE))
    again = instance.obtain(dead.folder)
    assert again
    second = again.renew()
    again.leave()
    siblings_of(bench).step()
    told = [(body["dead_instance_id"], body["store_id"]) for body in deaths(bench)]
    assert told == [(dead.folder.name, "old"), (second, "old"), (dead.folder.name, STORE), (second, STORE)]


def test_a_dead_one_that_never_heard_of_a_store_is_told_to_ours(bench: Bench, cache: Path) -> None:
    left_behind(cache, stores=())
    bench.leases.store_id = None
    siblings = siblings_of(bench)
    siblings.step()
    assert deaths(bench) == []
    bench.leases.store_id = STORE
    siblings.step()
    assert [body["store_id"] for body in deaths(bench)] == [STORE]


def test_the_reports_of_a_death_are_not_held_up_by_a_broken_outbox(bench: Bench, cache: Path) -> None:
    dead = left_behind(cache, 1)
    (dead.outbox / "cache.db").write_bytes(b"no database" * 500)
    (dead.outbox / "cache.db-wal").unlink(missing_ok=True)
    siblings = siblings_of(bench)
    siblings.step()
    bench.steps()
    siblings.step()
    assert len(deaths(bench)) == 1
    assert not dead.folder.exists()
    assert (dead.quarantine / "cache.db.corrupt-1").exists()


def test_own_folder_and_strangers_are_left_alone(bench: Bench, cache: Path) -> None:
    (cache / "lab-1" / "notes").mkdir()
    (cache / "README").touch()
    assert siblings_of(bench).look() == 0
    wait_until(bench.own.folder.exists)  # type: ignore[attr-defined]
