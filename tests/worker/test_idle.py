"""An idle worker: its claim stands for its heartbeats, and waits longer after each wait in vain."""

from pathlib import Path
from typing import Any

import pytest
from doubles import Bench, Clock, claimed, leased, refusal, silence

from client.transport import TransportError
from worker.claimer import Claimer
from worker.heartbeat import Heartbeat
from worker.patience import Patience

HOST = {"hostname": "h", "outbox": 0}
TWO = ("http://a:5000", "http://b:5000")


class IdleBench(Bench):
    """With a claimer and a heartbeat, which takes its turns while a claim waits."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, worker_heartbeat_interval=30, **settings)
        self.reporter.step()  # opens the outbox
        self.runner.capacity = 1
        self.dispatcher.wait_seconds = 50.0
        self.claims.host = lambda: HOST
        self.heartbeat = Heartbeat(
            self.settings, {}, lambda: HOST, self.link, self.leases, self.runner, self.claims, print, clock=self.clock
        )
        self.heartbeat.wake = self.heartbeat.step  # as its thread does
        confirm = self.heartbeat.confirm
        self.claimer = Claimer(self.settings, self.leases, self.claims, confirm, confirm, print, clock=self.clock)
        self.dispatcher.answers["/get-tasks"] = self.in_vain
        self.pass_by(32)  # the first, which registers, and one more
        assert len(self.beats) == 2
        self.dispatcher.calls.clear()

    def pass_by(self, seconds: float) -> None:
        """Time passes, and the heartbeat looks each second."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + 1)
            self.heartbeat.step()

    def in_vain(self, body: Any) -> Any:
        self.pass_by(body["wait_seconds"])
        return claimed([])

    @property
    def beats(self) -> list[Any]:
        return self.dispatcher.bodies("/heartbeat")

    @property
    def waits(self) -> list[float]:
        return [body["wait_seconds"] for body in self.dispatcher.bodies("/get-tasks")]


@pytest.fixture
def bench(tmp_path: Path) -> IdleBench:
    return IdleBench(tmp_path / "instance")


def test_claims_that_wait_stand_for_heartbeats_and_say_what_they_would(bench: IdleBench) -> None:
    for _ in range(10):
        bench.claimer.step()
    assert bench.clock.now > 1300
    assert bench.beats == []
    assert [body["host"] for body in bench.dispatcher.bodies("/get-tasks")] == [HOST] * 10


def test_each_wait_in_vain_lets_the_next_one_be_longer(bench: IdleBench) -> None:
    for _ in range(20):
        bench.claimer.step()
    first, *later = bench.waits
    assert 20 <= first <= 25
    assert 40 <= min(later) < max(later) <= 50


def test_a_lease_is_told_at_once_and_heartbeats_go_on_until_it_is_settled(bench: IdleBench) -> None:
    bench.claimer.step()
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1)], provisional=True)
    bench.claimer.step()
    [told] = bench.beats
    assert told["leases"] == [{"lease_id": "1-1"}]
    bench.dispatcher.answers["/get-tasks"] = bench.in_vain
    bench.claimer.step()
    bench.claimer.step()
    assert len(bench.beats) >= 2
    bench.leases.settled(["1-1"])  # by a verdict, or without one: then the dispatcher has to hear that it is gone
    bench.dispatcher.calls.clear()
    for _ in range(5):
        bench.claimer.step()
    assert [body["leases"] for body in bench.beats] == [[], []]


def test_the_claim_after_a_task_waits_no_longer_than_the_first(bench: IdleBench) -> None:
    bench.claimer.step()
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1)])
    bench.claimer.step()
    bench.claimer.step()
    assert bench.waits[1] >= 40
    assert bench.waits[2] <= 25


def test_a_claim_that_gets_no_answer_brings_the_heartbeat_back_at_once(bench: IdleBench) -> None:
    woken: list[float] = []
    bench.link.on_silence = lambda: woken.append(bench.clock.now)
    bench.claimer.step()
    bench.claimer.step()
    bench.dispatcher.answers |= {"/get-tasks": silence, "/heartbeat": silence}
    bench.claimer.step()
    assert woken == [bench.clock.now]
    assert bench.heartbeat.step() == 0
    assert bench.heartbeat.step() == pytest.approx(2)
    assert len(bench.beats) == 1
    bench.dispatcher.answers |= {"/get-tasks": bench.in_vain, "/heartbeat": bench.dispatcher.pulse}
    bench.pass_by(2)
    assert len(bench.beats) == 2
    for _ in range(5):  # the first one repeats the number that got no answer
        bench.claimer.step()
    assert len(bench.beats) == 3


def test_while_no_claim_waits_heartbeats_go_out(bench: IdleBench) -> None:
    bench.dispatcher.answers["/get-tasks"] = refusal(503)
    bench.claimer.step()
    bench.pass_by(100)
    assert 3 <= len(bench.beats) <= 4


def test_of_several_dispatchers_the_heartbeat_finds_out_which_ones_live(tmp_path: Path) -> None:
    bench = IdleBench(tmp_path / "instance", dispatcher_url=TWO)
    bench.claimer.step()
    bench.claimer.step()
    bench.claimer.step()
    assert len(bench.beats) >= 3
    assert bench.waits[-1] >= 40


def test_a_dispatcher_that_says_nothing_of_waits_gets_short_ones_and_heartbeats(tmp_path: Path) -> None:
    bench = IdleBench(tmp_path / "instance")
    bench.claims.patience.told(None)
    bench.dispatcher.wait_seconds = None
    for _ in range(8):
        bench.claimer.step()
    assert max(bench.waits) <= 25
    assert len(bench.beats) >= 5


def test_what_changed_is_told_at_once(bench: IdleBench) -> None:
    def changed(body: Any) -> Any:
        bench.pass_by(10)
        bench.heartbeat.register({"task_types": {"more": None}})
        return bench.in_vain(body)

    bench.dispatcher.answers["/get-tasks"] = changed
    bench.claimer.step()
    assert [body["register"] for body in bench.beats] == [{"task_types": {"more": None}}]


def test_a_claim_beside_that_got_no_answer_is_named_in_heartbeats(bench: IdleBench) -> None:
    bench.leases.open_claim(1, 1)
    bench.claimer.step()
    bench.claimer.step()
    assert [body["claims_in_flight"][0] for body in bench.beats] == [1, 1]


@pytest.fixture
def patience() -> tuple[Patience, Clock]:
    clock = Clock()
    made = Patience(clock)
    made.told(50)
    return made, clock


def test_a_longer_wait_that_fails_is_not_tried_again_for_an_hour(patience: tuple[Patience, Clock]) -> None:
    waits, clock = patience
    waits.answered(25, 25, 0)
    assert waits.next() >= 40
    waits.failed(45)
    waits.answered(25, 25, 0)
    assert waits.next() <= 25
    clock.now += 3600
    assert waits.next() >= 40
    waits.failed(25)
    assert waits.next() >= 40, "a wait that short says nothing about longer ones"


@pytest.mark.parametrize(("seconds", "count"), [(3, 0), (25, 1)])
def test_a_wait_that_was_ended_was_not_in_vain(patience: tuple[Patience, Clock], seconds: float, count: int) -> None:
    waits, _ = patience
    waits.answered(25, 25, 0)
    waits.answered(45, seconds, count)
    assert waits.next() <= 25


def test_a_claim_that_does_not_wait_changes_nothing(patience: tuple[Patience, Clock]) -> None:
    waits, _ = patience
    waits.answered(0, 1, 0)
    assert waits.next() <= 25
    waits.answered(25, 25, 0)
    waits.answered(0, 1, 2)
    assert waits.next() >= 40


def test_no_wait_is_longer_than_the_dispatcher_says(patience: tuple[Patience, Clock]) -> None:
    waits, _ = patience
    for said in (2.5, 1):
        waits.told(said)
        waits.answered(25, 25, 0)
        assert 0.8 * said <= waits.next() <= said
        assert waits.stands_for_heartbeats(said)
        assert not waits.stands_for_heartbeats(said + 0.1)


@pytest.mark.parametrize("said", [None, "50", 0, -1, [], {}, float("nan")])
def test_what_is_no_length_of_time_is_not_heard(patience: tuple[Patience, Clock], said: Any) -> None:
    waits, _ = patience
    waits.told(said)
    waits.answered(25, 25, 0)
    assert waits.next() <= 25
    assert not waits.stands_for_heartbeats(1)


def test_a_long_wait_that_is_refused_is_followed_by_short_ones(bench: IdleBench) -> None:
    """As by an older dispatcher, or by a proxy between."""
    bench.claimer.step()
    for answer in (refusal(504), silence, refusal(400, "invalid")):
        bench.claims.patience._short_until = 0.0
        bench.dispatcher.answers["/get-tasks"] = answer
        failing = bench.leases.open_claim(1, 45.0)
        with pytest.raises(TransportError):
            bench.claims.call(failing)
        assert bench.claims.patience.next() <= 25
