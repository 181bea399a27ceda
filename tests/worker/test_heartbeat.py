"""Heartbeats: what they list, when they go out, and what their answers do (mechanism 1, I8)."""

import threading
from pathlib import Path
from typing import Any

import pytest
from doubles import RUN, STORE, Bench, refusal, silence, task, wait_until

from worker.heartbeat import Heartbeat
from worker.loop import Loop

REGISTER = {"task_types": {"noop": None}, "concurrency": 2, "queues": None, "labels": [], "version": "0"}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "instance", worker_heartbeat_interval=30)


@pytest.fixture
def heartbeat(bench: Bench) -> Heartbeat:
    bench.renewed = []  # type: ignore[attr-defined]
    return Heartbeat(
        bench.settings,
        REGISTER,
        lambda: {"hostname": "h", "outbox": 0},
        bench.link,
        bench.leases,
        bench.runner,
        bench.claims,
        bench.renewed.append,  # type: ignore[attr-defined]
        clock=bench.clock,
    )


def beats(bench: Bench) -> list[dict[str, Any]]:
    return bench.dispatcher.bodies("/heartbeat")


def settle_in(bench: Bench, heartbeat: Heartbeat) -> None:
    """Past the first, which learns the store."""
    heartbeat.step()
    bench.dispatcher.calls.clear()


def test_the_first_one_registers_and_the_others_do_not(bench: Bench, heartbeat: Heartbeat) -> None:
    heartbeat.step()
    bench.clock.now += 30
    heartbeat.step()
    first, second = beats(bench)
    assert first == {
        "store_id": None,
        "worker_id": "lab-1",
        "instance_id": "instance-1",
        "seq": 1,
        "claims_in_flight": [],
        "leases": [],
        "host": {"hostname": "h", "outbox": 0},
        "register": REGISTER,
    }
    assert (second["store_id"], second["seq"]) == (STORE, 2)
    assert "register" not in second


def test_it_goes_out_at_its_interval_or_a_little_sooner(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    pauses = []
    for number in range(1, 20):
        pauses.append(heartbeat.step())
        bench.clock.now += pauses[-1] - 0.01
        assert heartbeat.step() == pytest.approx(0.01)
        bench.clock.now += 0.01
        assert heartbeat.step() == 0
        assert len(beats(bench)) == number
    assert 27 <= min(pauses) < max(pauses) <= 30, "a thousand that started together drift apart"


def test_it_goes_out_before_the_dispatcher_takes_it_for_dead(bench: Bench, heartbeat: Heartbeat) -> None:
    for told, longest in ((60, 30), (8, 4), (600, 30), (None, 30)):
        bench.dispatcher.death_seconds = told
        settle_in(bench, heartbeat)
        pause = heartbeat.step()
        assert 0.9 * longest <= pause <= longest, told
        bench.clock.now += 30


def test_another_store_is_registered_with_within_a_second(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    bench.dispatcher.store_id = "store-b"
    bench.clock.now += 30
    heartbeat.step()
    bench.clock.now += 1
    heartbeat.step()
    assert [(body["store_id"], "register" in body) for body in beats(bench)] == [(STORE, False), ("store-b", True)]


def test_every_lease_without_a_verdict_is_listed(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    bench.hold(1, 2)
    bench.leases.started(["1-1"])
    bench.leases.finished(["1-1"])
    bench.leases.open_claim(1, 25)
    bench.clock.now += 30
    heartbeat.step()
    [body] = beats(bench)
    assert [entry["lease_id"] for entry in body["leases"]] == ["1-1", "2-1"]
    assert body["claims_in_flight"] == [2]


def test_leases_of_two_stores_go_in_two_heartbeats(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    bench.leases.answered_claim(bench.leases.open_claim(1, 0), "old", [task(9, "9-1", "old")])
    bench.hold(1)
    bench.clock.now += 30
    heartbeat.step()
    assert [(body["store_id"], [one["lease_id"] for one in body["leases"]]) for body in beats(bench)] == [
        (STORE, ["1-1"]),
        ("old", ["9-1"]),
    ]


def test_news_go_out_early_but_at_most_once_a_second(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    bench.hold(1)
    for done in range(5):
        bench.leases.progressed("1-1", {"progress": {"done": done, "total": 9}})
        heartbeat.hint()
        heartbeat.step()
    assert beats(bench) == []
    bench.clock.now += 1
    heartbeat.step()
    heartbeat.step()
    [body] = beats(bench)
    assert body["leases"] == [{"lease_id": "1-1", "progress": {"done": 4, "total": 9}}]


def test_unanswered_news_are_told_again_every_two_seconds(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    bench.hold(1)
    bench.leases.progressed("1-1", {"note": "x"})
    bench.dispatcher.answers["/heartbeat"] = silence
    bench.clock.now += 30
    heartbeat.step()
    heartbeat.hint()
    assert heartbeat.step() == pytest.approx(2), "news do not make it hammer a silent dispatcher"
    bench.dispatcher.answers["/heartbeat"] = bench.dispatcher.pulse
    bench.clock.now += 2
    heartbeat.step()
    assert beats(bench)[-1]["leases"] == [{"lease_id": "1-1", "note": "x"}]


def test_verdicts_on_leases(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    bench.hold(1, 2, 3, 4, 5)
    bench.leases.finished(["4-1"])
    bench.dispatcher.leases = {"1-1": "ok", "2-1": "cancel", "3-1": "lost", "4-1": "lost", "5-1": "foreign"}
    bench.clock.now += 30
    heartbeat.step()
    assert bench.runner.stopped == [(["2-1"], "cancelled"), (["3-1"], "lost")]
    left = [entry["lease_id"] for entry in bench.leases.listings()[0].entries]
    assert left == ["1-1", "2-1", "4-1", "5-1"], "an outcome that is there is kept and reported, lost or not"


def test_orders_of_a_heartbeat_are_obeyed(bench: Bench, heartbeat: Heartbeat) -> None:
    bench.dispatcher.answers["/heartbeat"] = lambda body: {
        "store_id": STORE,
        "leases": {},
        "orders": {**RUN, "cancel": ["7-1"]},
    }
    heartbeat.step()
    assert bench.runner.stopped == [(["7-1"], "cancelled")]


@pytest.mark.parametrize("answer", [silence, refusal(503), refusal(401), lambda body: None, lambda body: {"leases": 3}])
def test_i8_no_trouble_stops_a_task(bench: Bench, heartbeat: Heartbeat, answer: Any) -> None:
    bench.hold(1)
    bench.dispatcher.answers["/heartbeat"] = answer
    for _ in range(100):
        bench.clock.now += 30
        heartbeat.step()
    assert bench.runner.stopped == []


def test_a_dead_instance_starts_anew_and_registers_again(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    bench.dispatcher.answers["/heartbeat"] = refusal(409, "instance_dead")
    bench.clock.now += 30
    heartbeat.step()
    assert bench.renewed == ["instance-1"]  # type: ignore[attr-defined]
    bench.leases.renew("instance-2")
    bench.dispatcher.answers["/heartbeat"] = bench.dispatcher.pulse
    bench.clock.now += 2
    heartbeat.step()
    body = beats(bench)[-1]
    assert (body["instance_id"], body["seq"], "register" in body) == ("instance-2", 1, True)


def test_confirming_waits_for_an_answer_to_a_heartbeat_that_began_after_the_asking(
    bench: Bench, heartbeat: Heartbeat
) -> None:
    """In real threads: the first tries are not answered; only the answer lets the claimer go on."""
    silent, tries = threading.Event(), threading.Semaphore(0)

    def answer(body: Any) -> Any:
        tries.release()
        return bench.dispatcher.pulse(body) if silent.is_set() else silence(body)

    bench.dispatcher.answers["/heartbeat"] = answer
    loop = Loop("heartbeat", heartbeat.step)
    heartbeat.wake = loop.wake
    done = threading.Event()
    waiter = threading.Thread(target=lambda: (heartbeat.confirm(), done.set()), daemon=True)
    loop.start()
    waiter.start()
    assert tries.acquire(timeout=5)
    assert not done.is_set()
    silent.set()
    bench.clock.now += 2
    loop.wake()
    assert done.wait(5)
    loop.stop()
    assert loop.join(5)


def test_one_that_is_asked_for_soon_goes_out_within_a_second(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    before = len(beats(bench))
    bench.hold(1)
    heartbeat.confirm_soon(["1-1"])
    assert 0 < heartbeat.step() <= 1
    assert len(beats(bench)) == before
    bench.clock.now += 1
    heartbeat.step()
    assert len(beats(bench)) == before + 1
    assert heartbeat.step() > 1, "once"


def test_what_is_settled_by_then_needs_none(bench: Bench, heartbeat: Heartbeat) -> None:
    """Of three claims in a row the second has one task that is not short after all."""
    settle_in(bench, heartbeat)
    before = len(beats(bench))
    for n in (1, 2, 3):
        bench.hold(n, n + 10)
        heartbeat.confirm_soon([f"{n}-1", f"{n + 10}-1"])
        bench.clock.now += 0.25
    bench.leases.settled(["1-1", "11-1", "2-1", "3-1", "13-1"])
    bench.clock.now += 0.25
    assert heartbeat.step() == pytest.approx(0.25)
    assert len(beats(bench)) == before
    bench.clock.now += 0.25
    heartbeat.step()
    assert [entry["lease_id"] for entry in beats(bench)[-1]["leases"]] == ["12-1"]
    assert len(beats(bench)) == before + 1
    assert heartbeat.step() > 1


def test_the_end_of_the_worker_lets_everybody_go(bench: Bench, heartbeat: Heartbeat) -> None:
    waiter = threading.Thread(target=heartbeat.confirm, daemon=True)
    waiter.start()
    heartbeat.close()
    wait_until(lambda: not waiter.is_alive())


def test_news_that_are_refused_are_given_up_so_that_the_leases_live(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    bench.hold(1)
    bench.leases.progressed("1-1", {"progress": {"done": "much", "total": 1}})
    bench.dispatcher.answers["/heartbeat"] = refusal(400, "invalid")
    bench.clock.now += 30
    heartbeat.step()
    bench.dispatcher.answers["/heartbeat"] = bench.dispatcher.pulse
    bench.clock.now += 2
    heartbeat.step()
    refused, accepted = beats(bench)
    assert refused["leases"] == [{"lease_id": "1-1", "progress": {"done": "much", "total": 1}}]
    assert accepted["leases"] == [{"lease_id": "1-1"}]


def test_the_last_one_says_that_nobody_comes_after_it(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    heartbeat.leave()
    [last] = beats(bench)
    assert (last["leaving"], last["leases"], last["seq"]) == (True, [], 2)
    bench.dispatcher.answers["/heartbeat"] = silence
    heartbeat.leave()
    heartbeat.leave()
    assert len(beats(bench)) == 2, "a dispatcher that is away need not hear of it"


def test_a_registration_that_is_refused_is_given_up_until_it_changes(bench: Bench, heartbeat: Heartbeat) -> None:
    settle_in(bench, heartbeat)
    pulse, refuse = bench.dispatcher.pulse, refusal(400, "invalid")
    bench.dispatcher.answers["/heartbeat"] = lambda body: (refuse if "register" in body else pulse)(body)
    heartbeat.register({"task_types": {"noop": ["no schema"]}})
    heartbeat.step()
    for seconds in (2, 30):
        bench.clock.now += seconds
        heartbeat.step()
    assert ["register" in body for body in beats(bench)] == [True, False, False]
    heartbeat.register({"task_types": {"noop": ["neither"]}})
    heartbeat.step()
    assert "register" in beats(bench)[-1]
