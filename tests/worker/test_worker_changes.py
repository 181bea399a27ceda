"""What changes while a worker runs: its task types, and what it says of itself."""

from pathlib import Path

import pytest
from doubles import Bench, claimed, leased, silence

from common.settings import SettingError
from worker.claimer import Claimer
from worker.config import WorkerSettings, read
from worker.heartbeat import Heartbeat


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path / "instance")
    made.reporter.step()  # opens the outbox
    made.runner.capacity = 4
    return made


def test_a_task_of_a_type_that_is_gone_is_given_back(bench: Bench) -> None:
    """Reload against a claim whose answer is on its way."""
    claimer = Claimer(
        bench.settings, bench.leases, bench.claims, lambda: None, lambda: None, lambda dead: None, clock=bench.clock
    )

    def change(body: object) -> object:
        bench.claims.serve(["echo"])
        return claimed([leased(1), {**leased(2), "task_type": "echo"}])

    bench.dispatcher.answers["/get-tasks"] = change
    claimer.step()
    assert [task.task_id for task in bench.runner.offered] == [2]
    bench.reporter.step()
    assert bench.dispatcher.delivered == ["1-1"]
    assert bench.dispatcher.bodies("/submit-results")[0]["outcomes"][0]["status"] == "released"
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([])
    claimer.step()
    assert bench.dispatcher.bodies("/get-tasks")[-1]["task_types"] == ["echo"]


def test_a_claim_that_waits_for_the_former_types_is_ended(bench: Bench) -> None:
    beside: list[object] = []

    def change(body: object) -> object:
        assert bench.claims.claim_beside(reporting=False) is None, "it asks for all there is room for"
        bench.claims.serve(["echo"])
        beside.append(bench.claims.claim_beside(reporting=False))
        return claimed([])

    bench.dispatcher.answers["/get-tasks"] = change
    bench.claims.call(bench.claims.waiting_claim())
    assert beside != [None]


def test_a_worker_registers_again_when_it_has_changed(bench: Bench) -> None:
    old, new = {"task_types": {"noop": None}}, {"task_types": {}}
    heartbeat = Heartbeat(
        bench.settings, old, dict, bench.link, bench.leases, bench.runner, bench.claims, print, clock=bench.clock
    )
    told = lambda: [body.get("register") for body in bench.dispatcher.bodies("/heartbeat")]  # noqa: E731
    heartbeat.step()
    heartbeat.step()
    heartbeat.register(new)
    pulse = bench.dispatcher.answers["/heartbeat"]
    bench.dispatcher.answers["/heartbeat"] = silence
    heartbeat.step()
    bench.dispatcher.answers["/heartbeat"] = pulse
    bench.clock.now += 2
    heartbeat.step()
    bench.clock.now += 60
    heartbeat.step()
    assert told()[0] is not None
    assert told()[-3:] == [new, new, None]


@pytest.mark.parametrize(
    ("settings", "least", "most"),
    [
        ({"WORKER_CONCURRENCY": "3"}, 3, 3),
        ({"WORKER_CONCURRENCY": "3", "WORKER_MIN": "1"}, 1, 3),
        ({"WORKER_CONCURRENCY": "3", "WORKER_MAX": "8"}, 1, 8),
        ({"WORKER_MIN": "2", "WORKER_MAX": "8"}, 2, 8),
    ],
)
def test_how_many_children_there_are(settings: dict[str, str], least: int, most: int) -> None:
    found: WorkerSettings = read(settings)
    assert (found.least, found.most) == (least, most)


def test_no_more_children_at_least_than_at_most() -> None:
    with pytest.raises(SettingError, match=r"WORKER_MIN=5: is above the most children there may be, 2"):
        read({"WORKER_MIN": "5", "WORKER_MAX": "2"})
