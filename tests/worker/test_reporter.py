"""Reports: one durable entry before the first sending, verdicts, refusals, outages, and full disks (I7, I8)."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from doubles import RUN, STORE, Bench, claimed, leased, open_outbox, outcome, refusal, silence

from client.transport import BadReply
from worker.model import Outcome
from worker.outbox import Entry, Outbox


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path / "instance", cache_ttl_seconds=3600, cache_retry_interval=20)
    (tmp_path / "instance" / "spool").mkdir()
    return made


def on_disk(bench: Bench) -> list[str]:
    """The leases in the outbox, as a successor would find them."""
    outbox = open_outbox(bench.folder)
    try:
        return [lease_id for lease_id, _, _ in outbox.leases]
    finally:
        outbox.close()


def left_on_disk(bench: Bench) -> list[str]:
    """The same once there was a moment to tidy up in."""
    bench.clock.now += 1.0
    bench.steps()
    return on_disk(bench)


def quarantined(bench: Bench) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (bench.folder.parent / "quarantine").glob("*.json")]


def report(bench: Bench, *task_ids: int) -> None:
    bench.hold(*task_ids)
    bench.leases.finished([f"{one}-1" for one in task_ids])
    bench.reporter.add([outcome(one) for one in task_ids])


def held(bench: Bench) -> list[str]:
    return [entry["lease_id"] for listing in bench.leases.listings() for entry in listing.entries]


class Estate:
    """The outbox of a dead instance, with three outcomes in three entries, handed to the reporter."""

    def __init__(self, bench: Bench) -> None:
        self._folder, self.emptied = bench.folder.parent / "dead", list[int]()
        (self._folder / "outbox").mkdir(parents=True)
        outbox = open_outbox(self._folder)
        for task_id in (5, 6, 7):
            outbox.put([outcome(task_id)])
        outbox.close()
        bench.steps()
        bench.reporter.adopt(lambda: open_outbox(self._folder), lambda: self.emptied.append(1))

    def on_disk(self) -> list[str]:
        outbox = open_outbox(self._folder)
        try:
            return [lease_id for lease_id, _, _ in outbox.leases]
        finally:
            outbox.close()


@pytest.fixture
def estate(bench: Bench) -> Estate:
    return Estate(bench)


def test_of_an_adopted_outbox_only_what_is_open_stays_on_disk(bench: Bench, estate: Estate) -> None:
    bench.dispatcher.verdicts["6-1"] = "foreign"
    bench.steps()
    assert left_on_disk(bench) == []
    assert (estate.on_disk(), estate.emptied) == (["6-1"], [])
    bench.dispatcher.verdicts.clear()
    bench.clock.now += 30
    bench.steps()
    assert (estate.on_disk(), estate.emptied) == ([], [1])


def test_an_adopted_outbox_outlasts_a_fault_of_the_disk(
    bench: Bench, estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, faults = Outbox.sweep, [sqlite3.OperationalError("database or disk is full")]

    def faulty(outbox: Outbox) -> None:
        if faults:
            raise faults.pop()
        sweep(outbox)

    monkeypatch.setattr(Outbox, "sweep", faulty)
    for _ in range(3):
        bench.steps()
        bench.clock.now += 1.1
    assert (faults, estate.on_disk(), estate.emptied) == ([], [], [1])


def test_i7_outcomes_are_durable_before_they_are_first_sent(bench: Bench) -> None:
    seen: list[list[str]] = []

    def look(body: Any) -> Any:
        seen.append(on_disk(bench))
        return bench.dispatcher.accept(body)

    bench.dispatcher.answers["/submit-results"] = look
    report(bench, 1, 2, 3)
    bench.steps()
    assert seen == [["1-1", "2-1", "3-1"]]
    assert left_on_disk(bench) == []
    assert held(bench) == []


def test_the_text_of_an_outcome_is_sent_as_the_child_wrote_it(bench: Bench) -> None:
    bodies: list[bytes] = []

    class Raw:
        def call(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
            bodies.append(body)
            return bench.dispatcher.call(method, path, body, **how)

        def renew(self) -> None: ...

        def close(self) -> None: ...

    bench.link._transport = Raw()
    one = outcome(1, result={"big": 2**80, "text": "ü"})
    bench.hold(1)
    bench.reporter.add([one])
    bench.steps()
    assert one.body.encode() in bodies[0]


def test_what_is_settled_leaves_the_disk_with_the_next_entry(bench: Bench) -> None:
    report(bench, 1)
    bench.steps()
    assert on_disk(bench) == ["1-1"], "to sync the disk for it alone can wait"
    report(bench, 2)
    bench.steps()
    assert on_disk(bench) == ["2-1"]
    assert left_on_disk(bench) == []
    report(bench, 3)
    bench.steps()
    bench.reporter.close()
    assert on_disk(bench) == []


@pytest.mark.parametrize("verdict", ["accepted", "accepted_late", "duplicate", "superseded", "cancelled"])
def test_i7_a_definitive_verdict_settles(bench: Bench, verdict: str) -> None:
    bench.dispatcher.verdicts["1-1"] = verdict
    report(bench, 1)
    bench.steps()
    assert left_on_disk(bench) == []
    assert held(bench) == []


@pytest.mark.parametrize("brief", [True, False])
def test_one_word_settles_all_as_each_verdict_does(bench: Bench, brief: bool) -> None:
    bench.dispatcher.brief = brief
    report(bench, 1, 2)
    bench.reporter.add([outcome(3, "failed", error="no")])
    bench.hold(3)
    bench.steps()
    assert left_on_disk(bench) == []
    assert held(bench) == []
    assert bench.dispatcher.delivered == ["1-1", "2-1", "3-1"]


@pytest.mark.parametrize("verdicts", ["duplicate", "", "accepted "])
def test_another_word_for_all_is_no_answer(bench: Bench, verdicts: str) -> None:
    bench.dispatcher.answers["/submit-results"] = lambda body: {"verdicts": verdicts, "orders": RUN}
    report(bench, 1)
    bench.steps()
    assert left_on_disk(bench) == held(bench) == ["1-1"]


@pytest.mark.parametrize("verdict", ["foreign", "unknown", "invalid", "some_future_word"])
def test_i7_any_other_verdict_keeps_the_outcome_and_only_it(bench: Bench, verdict: str) -> None:
    bench.dispatcher.verdicts["2-1"] = verdict
    report(bench, 1, 2, 3)
    bench.steps()
    assert left_on_disk(bench) == ["2-1"]
    assert held(bench) == ["2-1"]
    bench.clock.now += 30
    bench.dispatcher.verdicts.clear()
    bench.steps()
    assert bench.dispatcher.delivered == ["1-1", "2-1", "3-1", "2-1"]
    assert left_on_disk(bench) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 429, 500, 502, 503, 507])
def test_i7_no_status_deletes(bench: Bench, status: int) -> None:
    bench.dispatcher.answers["/submit-results"] = refusal(status, "whatever")
    report(bench, 1, 2)
    bench.steps()
    for _ in range(5):
        bench.clock.now += 60
        bench.steps()
    assert sorted(on_disk(bench)) == ["1-1", "2-1"]
    bench.dispatcher.answers["/submit-results"] = bench.dispatcher.accept
    bench.clock.now += 60
    bench.steps()
    assert sorted(bench.dispatcher.delivered) == ["1-1", "2-1"]


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        {"verdicts": []},
        {"verdicts": [{"lease_id": "1-1"}]},
        {"verdicts": [{"lease_id": "9-9", "verdict": "accepted"}]},
        {"verdicts": ["accepted"]},
        {"verdicts": {"1-1": "accepted"}},
    ],
)
def test_i7_only_a_well_formed_reply_counts(bench: Bench, reply: Any) -> None:
    bench.dispatcher.answers["/submit-results"] = lambda body: reply
    report(bench, 1)
    bench.steps()
    assert left_on_disk(bench) == ["1-1"]


def test_i8_in_an_outage_outcomes_wait_and_go_when_any_call_is_answered_again(bench: Bench) -> None:
    bench.dispatcher.answers["/submit-results"] = bench.dispatcher.answers["/heartbeat"] = silence
    report(bench, 1)
    bench.steps()
    report(bench, 2)
    bench.steps()
    assert len(bench.dispatcher.bodies("/submit-results")) == 1, "one silence is enough for all entries"
    bench.clock.now += 14
    bench.steps()
    assert len(bench.dispatcher.bodies("/submit-results")) == 1
    bench.dispatcher.answers["/submit-results"] = bench.dispatcher.accept
    bench.dispatcher.answers["/heartbeat"] = bench.dispatcher.pulse
    bench.link.post("/heartbeat", {"leases": []}, 1)
    bench.steps()
    assert bench.dispatcher.delivered == ["1-1", "2-1"]
    assert bench.runner.stopped == []


def test_the_retry_comes_after_the_interval(bench: Bench) -> None:
    bench.dispatcher.answers["/submit-results"] = silence
    report(bench, 1)
    bench.steps()
    bench.clock.now += 25.1
    bench.steps()
    assert len(bench.dispatcher.bodies("/submit-results")) == 2


def test_a_failing_entry_does_not_block_the_next(bench: Bench) -> None:
    def fail_first(body: Any) -> Any:
        return refusal(500)(body) if body["outcomes"][0]["task_id"] == 1 else bench.dispatcher.accept(body)

    bench.dispatcher.answers["/submit-results"] = fail_first
    report(bench, 1)
    bench.reporter.step()
    report(bench, 2)
    bench.steps()
    assert bench.dispatcher.delivered == ["2-1"]


def after_an_outage(bench: Bench, *task_ids: int) -> None:
    """An entry for each task, none sent yet, and the dispatcher is back."""
    answer = bench.dispatcher.answers["/submit-results"]
    bench.dispatcher.answers["/submit-results"] = silence
    for one in task_ids:
        report(bench, one)
        bench.steps()
    bench.dispatcher.calls.clear()
    bench.dispatcher.answers["/submit-results"] = answer
    bench.reporter.retry_now()


def test_the_many_entries_of_an_outage_share_reports(bench: Bench) -> None:
    bench.dispatcher.verdicts["7-1"] = "unknown"
    after_an_outage(bench, *range(1, 1301))
    bench.steps()
    sizes = [len(body["outcomes"]) for body in bench.dispatcher.bodies("/submit-results")]
    assert sizes == [1000, 300]
    assert left_on_disk(bench) == held(bench) == ["7-1"]


def test_large_entries_share_no_report(bench: Bench) -> None:
    bench.dispatcher.answers["/submit-results"] = silence
    for one in range(1, 5):
        bench.hold(one)
        bench.reporter.add([outcome(one, result="x" * 400_000)])
        bench.steps()
    bench.dispatcher.answers["/submit-results"] = bench.dispatcher.accept
    bench.dispatcher.calls.clear()
    bench.reporter.retry_now()
    bench.steps()
    assert [len(body["outcomes"]) for body in bench.dispatcher.bodies("/submit-results")] == [2, 2]


@pytest.mark.parametrize("status", [400, 409, 413, 500, 503])
def test_entries_refused_together_go_one_by_one(bench: Bench, status: int) -> None:
    def refuse_third(body: Any) -> Any:
        ids = [one["task_id"] for one in body["outcomes"]]
        return refusal(status)(body) if 3 in ids else bench.dispatcher.accept(body)

    bench.dispatcher.answers["/submit-results"] = refuse_third
    after_an_outage(bench, *range(1, 9))
    for _ in range(3):
        bench.steps()
        bench.clock.now += 25.1
    assert sorted(bench.dispatcher.delivered) == [f"{one}-1" for one in (1, 2, 4, 5, 6, 7, 8)]
    assert left_on_disk(bench) == ["3-1"]


def test_what_is_refused_together_ages_together(bench: Bench) -> None:
    bench.dispatcher.answers["/submit-results"] = refusal(401)
    after_an_outage(bench, 1, 2, 3)
    for _ in range(200):
        bench.clock.now += 25.1
        bench.steps()
    assert sorted(record["outcomes"][0]["lease_id"] for record in quarantined(bench)) == ["1-1", "2-1", "3-1"]
    assert left_on_disk(bench) == held(bench) == []


def test_an_outcome_whose_large_result_is_gone_is_set_aside_when_it_is_refused(bench: Bench) -> None:
    bench.hold(1, 2)
    for one, verdict in ((1, "invalid"), (2, "duplicate")):
        missing = bench.folder / "spool" / f"{one}.json"
        bench.dispatcher.verdicts[f"{one}-1"] = verdict
        bench.reporter.add([outcome(one, spool=missing)])
    bench.steps()
    [record] = quarantined(bench)
    assert record["outcomes"][0]["lease_id"] == "1-1"
    assert "missing" in record["reason"]
    assert left_on_disk(bench) == held(bench) == [], "its lease is listed no more, so the task runs again"


@pytest.mark.parametrize("status", [400, 413])
def test_a_batch_refused_as_a_whole_is_split_until_the_culprit_is_alone(bench: Bench, status: int) -> None:
    def refuse_third(body: Any) -> Any:
        ids = [one["task_id"] for one in body["outcomes"]]
        return refusal(status)(body) if 3 in ids else bench.dispatcher.accept(body)

    bench.dispatcher.answers["/submit-results"] = refuse_third
    report(bench, *range(1, 9))
    bench.steps()
    assert sorted(bench.dispatcher.delivered) == [f"{one}-1" for one in (1, 2, 4, 5, 6, 7, 8)]
    assert left_on_disk(bench) == ["3-1"]


def test_only_time_between_answered_refusals_counts_towards_quarantine(bench: Bench) -> None:
    bench.dispatcher.answers["/submit-results"] = refusal(403)
    report(bench, 1)
    bench.steps()
    for _ in range(30):  # half an hour of refusals
        bench.clock.now += 60
        bench.steps()
    bench.dispatcher.answers["/submit-results"] = silence
    for _ in range(100):  # days of silence
        bench.clock.now += 3600
        bench.steps()
    bench.dispatcher.answers["/submit-results"] = refusal(403)
    for _ in range(20):
        bench.clock.now += 60
        bench.steps()
    assert quarantined(bench) == []
    assert left_on_disk(bench) == ["1-1"]
    for _ in range(20):
        bench.clock.now += 60
        bench.steps()
    [record] = quarantined(bench)
    assert [one["lease_id"] for one in record["outcomes"]] == ["1-1"]
    assert left_on_disk(bench) == []
    assert held(bench) == [], "what lies in quarantine is listed no more"


def test_a_refusal_of_the_moment_pauses_all_and_passes_the_turn(bench: Bench) -> None:
    """Two entries under a 503 that names a time: one request for each turn, and not always for the same entry."""
    bench.dispatcher.answers["/submit-results"] = refusal(503, retry_after=5)
    report(bench, 1)
    bench.reporter.step()
    report(bench, 2)
    for _ in range(3):
        bench.steps()
        bench.clock.now += 5.5
    sent = [body["outcomes"][0]["lease_id"] for body in bench.dispatcher.bodies("/submit-results")]
    assert sent == ["1-1", "2-1", "1-1"]


def test_a_restart_replays(bench: Bench, tmp_path: Path) -> None:
    bench.dispatcher.answers["/submit-results"] = silence
    report(bench, 1, 2)
    bench.steps()
    bench.reporter.close()
    again = Bench(tmp_path / "instance")
    again.steps()
    assert again.dispatcher.delivered == ["1-1", "2-1"]


def test_a_large_result_goes_ahead_of_its_report(bench: Bench) -> None:
    bench.dispatcher.answers["/result/1-1"] = lambda body: {"lease_id": "1-1", "bytes": len(body)}
    spool = bench.folder / "spool" / "1-1.bin"
    spool.write_bytes(b"much data")
    bench.hold(1, 2)
    reference = {"bytes": 9, "sha256": "00", "media_type": "application/octet-stream"}
    bench.reporter.add([outcome(1, spool=spool, result_ref=reference), outcome(2)])
    bench.steps()
    calls = [(method, path) for method, path, _ in bench.dispatcher.calls]
    assert calls[0] == ("PUT", f"/result/1-1?store_id={STORE}")
    assert bench.dispatcher.calls[0][2] == b"much data"
    assert calls[1:] == [("POST", "/submit-results")] * 2
    assert not spool.exists()


def test_a_result_is_uploaded_once_and_kept_until_the_verdict(bench: Bench) -> None:
    bench.dispatcher.answers["/result/1-1"] = lambda body: {}
    bench.dispatcher.answers["/submit-results"] = silence
    spool = bench.folder / "spool" / "1-1.bin"
    spool.write_bytes(b"much")
    bench.hold(1)
    bench.reporter.add([outcome(1, spool=spool, result_ref={"media_type": "application/json"})])
    for _ in range(3):
        bench.steps()
        bench.clock.now += 30
    assert len(bench.dispatcher.bodies("/result/1-1")) == 1
    assert spool.exists()


def test_a_refused_upload_is_judged_by_the_verdict(bench: Bench) -> None:
    bench.dispatcher.answers["/result/1-1"] = refusal(404, "not_found")
    bench.dispatcher.verdicts["1-1"] = "superseded"
    spool = bench.folder / "spool" / "1-1.bin"
    spool.write_bytes(b"much")
    bench.hold(1)
    bench.reporter.add([outcome(1, spool=spool, result_ref={"media_type": "application/json"})])
    bench.steps()
    assert left_on_disk(bench) == []


def test_a_report_brings_the_next_tasks(bench: Bench) -> None:
    def answer(body: Any) -> Any:
        return {**bench.dispatcher.accept(body), "claim": claimed([leased(7), leased(8)])}

    bench.dispatcher.answers["/submit-results"] = answer
    report(bench, 1)
    bench.runner.capacity = 2
    bench.reporter.step()
    [body] = bench.dispatcher.bodies("/submit-results")
    assert body["claim"]["max_tasks"] == 2
    assert "worker_id" not in body["claim"]
    assert [one.lease_id for one in bench.runner.offered] == ["7-1", "8-1"]
    assert bench.claims.hold_off() > 0


def test_outcomes_wait_for_company_while_the_children_have_more_to_do(bench: Bench) -> None:
    bench.runner.capacity, bench.runner.busy = 0, True
    bench.reporter.step()
    report(bench, 1)
    assert 0 < bench.reporter.step() <= 0.601
    bench.clock.now += 0.55
    woken: list[int] = []
    bench.reporter.wake = lambda: woken.append(1)
    report(bench, 2)
    assert woken == [], "it joins the one that waits"
    assert 0 < bench.reporter.step() <= 0.051
    assert bench.dispatcher.delivered == []
    bench.clock.now += 0.06
    bench.reporter.step()
    assert [len(body["outcomes"]) for body in bench.dispatcher.bodies("/submit-results")] == [2]
    report(bench, 3)
    assert bench.reporter.step() > 0, "the next one waits anew"


@pytest.mark.parametrize("why", ["children run dry", "drain", "nothing more to claim", "one was cancelled"])
def test_outcomes_wait_for_no_company_that_may_not_come(bench: Bench, why: str) -> None:
    bench.runner.capacity, bench.runner.busy = 1, True
    bench.reporter.step()
    report(bench, 1)
    bench.reporter.step()
    if why == "children run dry":
        bench.runner.busy = False
    elif why == "drain":
        bench.claims.draining = True
    elif why == "one was cancelled":
        woken: list[int] = []
        bench.reporter.wake = lambda: woken.append(1)
        bench.hold(2)
        bench.reporter.add([outcome(2, "cancelled")])
        assert woken
    else:
        bench.claims.take(bench.leases.open_claim(5, 0), claimed([leased(7)]))
    bench.reporter.step()
    assert bench.dispatcher.delivered[:1] == ["1-1"]


def test_outcomes_that_come_without_end_do_not_hold_up_the_reports(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a flood there are new ones whenever the last have been made durable."""
    report(bench, 1)
    more, put = iter(range(2, 50)), Outbox.put

    def put_while_more_come(outbox: Outbox, batch: list[Outcome]) -> Entry:
        bench.reporter.add([outcome(task_id) for task_id in [next(more, None)] if task_id])
        return put(outbox, batch)

    monkeypatch.setattr(Outbox, "put", put_while_more_come)
    bench.reporter.step()
    assert bench.dispatcher.delivered[:1] == ["1-1"]


def test_a_task_that_failed_may_come_back_with_the_same_reply(bench: Bench) -> None:
    """Its old lease has ended by then: the new one is no twin."""

    def answer(body: Any) -> Any:
        return {**bench.dispatcher.accept(body), "claim": claimed([leased(1, "1-b")])}

    bench.dispatcher.answers["/submit-results"] = answer
    report(bench, 1)
    bench.runner.capacity = 1
    bench.reporter.step()
    assert [one.lease_id for one in bench.runner.offered] == ["1-b"]


@pytest.mark.parametrize("reply", ["silence", "refused", "absent"])
def test_a_claim_that_was_not_answered_is_left_to_be_repeated(bench: Bench, reply: str) -> None:
    answers = {
        "silence": silence,
        "refused": refusal(503),
        "absent": lambda body: {"verdicts": [{"lease_id": "1-1", "verdict": "accepted"}], "orders": RUN},
    }
    bench.dispatcher.answers["/submit-results"] = answers[reply]
    report(bench, 1)
    bench.runner.capacity = 2
    bench.reporter.step()
    claim = bench.claims.unanswered_claim()
    assert claim is not None
    assert claim.number == bench.dispatcher.bodies("/submit-results")[0]["claim"]["request_id"]


def test_orders_come_with_a_report_as_well(bench: Bench) -> None:
    def answer(body: Any) -> Any:
        return {**bench.dispatcher.accept(body), "orders": {"state": "quiet", "cancel": ["5-1"]}}

    bench.dispatcher.answers["/submit-results"] = answer
    report(bench, 1)
    bench.steps()
    bench.runner.capacity = 2
    assert bench.runner.stopped == [(["5-1"], "cancelled")]
    assert bench.claims.room() == 0


def test_above_the_high_water_mark_nothing_is_claimed_and_nothing_dropped(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "instance", cache_max_bytes=2**20)
    bench.runner.capacity = 4
    bench.dispatcher.answers["/submit-results"] = silence
    bench.hold(*range(1, 11))
    bench.reporter.add([outcome(one, result="x" * 90_000) for one in range(1, 11)])
    bench.steps()
    assert bench.claims.room() == 0
    assert len(left_on_disk(bench)) == 10
    bench.dispatcher.answers["/submit-results"] = bench.dispatcher.accept
    bench.reporter.retry_now()
    bench.steps()
    assert len(bench.dispatcher.delivered) == 10
    assert bench.claims.room() == 4


def test_a_report_stays_below_the_limits_of_a_request(bench: Bench) -> None:
    bench.hold(*range(1, 1501))
    bench.reporter.add([outcome(one, result="x" * 9_000) for one in range(1, 1501)])
    bench.steps()
    sizes = [len(body["outcomes"]) for body in bench.dispatcher.bodies("/submit-results")]
    assert sum(sizes) == 1500
    assert max(sizes) * 9_000 < 9 * 2**20


def test_what_the_disk_does_not_take_stays_in_memory_and_stops_claiming(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.runner.capacity = 4
    bench.steps()
    put = Outbox.put

    def full(self: Outbox, outcomes: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Outbox, "put", full)
    report(bench, 1)
    assert bench.reporter.step() == 1.0
    assert bench.claims.room() == 0
    assert bench.dispatcher.delivered == [], "what is not durable is not sent"
    assert bench.reporter.waiting == 1
    monkeypatch.setattr(Outbox, "put", put)
    bench.clock.now += 1
    bench.steps()
    assert bench.dispatcher.delivered == ["1-1"]
    assert bench.claims.room() == 4


def test_at_the_very_end_what_could_not_be_saved_is_sent_from_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox, "put", lambda self, outcomes: (_ for _ in ()).throw(OSError("no space")))
    report(bench, 1)
    bench.reporter.step()
    bench.reporter.send_unsaved()
    assert bench.dispatcher.delivered == ["1-1"]
    assert bench.leases.idle()


def test_a_database_that_breaks_while_in_use_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.dispatcher.answers["/submit-results"] = silence
    report(bench, 1)
    bench.steps()
    put, broken = Outbox.put, [True]

    def corrupt(self: Outbox, outcomes: Any) -> Any:
        if broken.pop() if broken else False:
            raise sqlite3.DatabaseError("database disk image is malformed")
        return put(self, outcomes)

    monkeypatch.setattr(Outbox, "put", corrupt)
    report(bench, 2)
    bench.dispatcher.answers["/submit-results"] = bench.dispatcher.accept
    bench.steps()
    assert sorted(bench.dispatcher.delivered) == ["1-1", "2-1"]


def test_it_rests_only_when_nothing_can_be_done(bench: Bench) -> None:
    assert not bench.reporter.rests()
    bench.steps()
    assert bench.reporter.rests()
    report(bench, 1)
    assert not bench.reporter.rests()

    def nonsense(body: Any) -> Any:
        raise BadReply("http://x", "no JSON")

    bench.dispatcher.answers["/submit-results"] = nonsense
    bench.steps()
    assert bench.reporter.rests(), "all it can do is wait for the interval"
    assert bench.reporter.waiting == 1
