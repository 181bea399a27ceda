"""What a worker holds, as its heartbeats and claims see it."""

from doubles import STORE, task

from worker.leases import Leases


def claimed(leases: Leases, *ids: int) -> None:
    leases.answered_claim(leases.open_claim(1, 0), STORE, [task(one) for one in ids])


def listed(leases: Leases) -> list[str]:
    return [entry["lease_id"] for listing in leases.listings() for entry in listing.entries]


def test_a_claim_is_in_flight_until_its_leases_are_listed() -> None:
    leases = Leases("i")
    claim = leases.open_claim(4, 25)
    [before] = leases.listings()
    leases.answered_claim(claim, STORE, [task(1)])
    [after] = leases.listings()
    assert (before.claims_in_flight, before.entries) == ([1], [])
    assert (after.claims_in_flight, after.entries) == ([], [{"lease_id": "1-1"}])
    assert after.seq == before.seq + 1


def test_a_failed_claim_is_repeated_under_its_number_and_stays_in_flight() -> None:
    leases = Leases("i")
    first, second = leases.open_claim(4, 25), leases.open_claim(2, 0)
    leases.failed_claim(first)
    assert leases.unanswered_claim() is first
    assert leases.unanswered_claim() is None, "it is under way again"
    assert leases.listings()[0].claims_in_flight == [1, 2]
    assert leases.is_latest(second)
    assert not leases.is_latest(first)


def test_a_second_lease_of_a_held_task_is_a_twin() -> None:
    leases = Leases("i")
    claimed(leases, 1)
    fresh, twins = leases.answered_claim(leases.open_claim(2, 0), STORE, [task(1, "1-b"), task(2)])
    assert [one.lease_id for one in fresh] == ["2-1"]
    assert [one.lease_id for one in twins] == ["1-b"]
    assert listed(leases) == ["1-1", "1-b", "2-1"]
    leases.settled(["1-1", "1-b"])
    fresh, _ = leases.answered_claim(leases.open_claim(1, 0), STORE, [task(1, "1-c")])
    assert fresh


def test_the_same_number_of_another_store_is_another_task() -> None:
    leases = Leases("i")
    claimed(leases, 1)
    fresh, _ = leases.answered_claim(leases.open_claim(1, 0), "store-b", [task(1, "1-b", "store-b")])
    assert fresh


def test_a_refused_outcome_does_not_keep_its_task_from_running() -> None:
    leases = Leases("i")
    claimed(leases, 1)
    leases.refused(["1-1"])
    fresh, _ = leases.answered_claim(leases.open_claim(1, 0), STORE, [task(1, "1-b")])
    assert fresh
    _, twins = leases.answered_claim(leases.open_claim(1, 0), STORE, [task(1, "1-c")])
    assert twins


def test_a_repeated_answer_brings_nothing_twice() -> None:
    leases = Leases("i")
    claimed(leases, 1)
    assert leases.answered_claim(leases.open_claim(1, 0), STORE, [task(1)]) == ([], [])


def test_each_store_has_a_listing_of_its_own() -> None:
    leases = Leases("i")
    claimed(leases, 1)
    leases.answered_claim(leases.open_claim(1, 0), "store-b", [task(1, "1-b", "store-b")])
    assert [(one.store_id, len(one.entries)) for one in leases.listings()] == [("store-b", 1), (STORE, 1)]


def test_news_are_told_once_and_again_when_nobody_heard() -> None:
    leases = Leases("i")
    claimed(leases, 1)
    leases.progressed("1-1", {"progress": {"done": 1, "total": 9}, "note": "a"})
    assert leases.has_news()
    [listing] = leases.listings()
    assert listing.entries == [{"lease_id": "1-1", "progress": {"done": 1, "total": 9}, "note": "a"}]
    assert not leases.has_news()
    leases.progressed("1-1", {"note": "b"})
    leases.not_told(listing)
    [again] = leases.listings()
    assert again.entries == [{"lease_id": "1-1", "progress": {"done": 1, "total": 9}, "note": "b"}]
    assert listed(leases) == ["1-1"]


def test_a_renewed_instance_starts_its_numbers_anew_and_keeps_its_leases() -> None:
    leases = Leases("i")
    claimed(leases, 1)
    leases.open_claim(1, 25)
    leases.renew("j")
    [listing] = leases.listings()
    assert (listing.instance_id, listing.seq, listing.claims_in_flight) == ("j", 1, [])
    assert listing.entries
    assert leases.open_claim(1, 0).number == 1


def test_only_what_neither_waits_nor_runs_is_idle() -> None:
    leases = Leases("i")
    claim = leases.open_claim(1, 0)
    assert not leases.idle()
    leases.answered_claim(claim, STORE, [task(1)])
    assert not leases.idle()
    assert leases.unfinished(["1-1", "unknown"]) == ["1-1"]
    leases.finished(["1-1"])
    assert leases.unfinished(["1-1"]) == []
    leases.settled(["1-1"])
    assert leases.idle()


def test_open_notes_are_the_started_leases_that_are_still_held() -> None:
    leases = Leases("i")
    claimed(leases, 1, 2, 3)
    leases.started(["1-1", "2-1"])
    leases.settled(["1-1"])
    assert leases.open_notes() == ["2-1"]


def log(start: int, *lines: str) -> dict[str, object]:
    return {"log": {"from": start, "lines": list(lines)}}


def test_of_news_the_newest_counts_but_of_a_log_every_line() -> None:
    leases = Leases("i")
    claimed(leases, 1)
    leases.progressed("1-1", {"partial": 1, **log(0, "a")})
    leases.progressed("1-1", {"partial": 2, **log(1, "b", "c")})
    [unanswered] = leases.listings()
    assert unanswered.entries == [{"lease_id": "1-1", "partial": 2, **log(0, "a", "b", "c")}]
    leases.progressed("1-1", log(3, "d"))
    leases.not_told(unanswered)
    [again] = leases.listings()
    assert again.entries == [{"lease_id": "1-1", "partial": 2, **log(0, "a", "b", "c", "d")}]


def test_a_log_that_waits_is_bounded() -> None:
    leases = Leases("i")
    claimed(leases, 1)
    for n in range(300):
        leases.progressed("1-1", log(n, str(n)))
    [listing] = leases.listings()
    assert listing.entries[0]["log"] == {"from": 100, "lines": [str(n) for n in range(100, 300)]}


def test_news_that_a_heartbeat_has_no_room_for_come_with_the_next_ones() -> None:
    """A request over the dispatcher's limit would be refused, and every lease with it."""
    leases = Leases("i")
    claimed(leases, *range(1, 8))
    for n in range(1, 8):
        leases.progressed(f"{n}-1", {"checkpoint": "x" * 3_000_000})
    told: list[str] = []
    rounds = 0
    while leases.has_news():
        [listing] = leases.listings()
        assert len(listing.entries) == 7, "all are listed, whatever is told of them"
        told += [entry["lease_id"] for entry in listing.entries if "checkpoint" in entry]
        rounds += 1
    assert sorted(told) == [f"{n}-1" for n in range(1, 8)]
    assert rounds == 4


def test_there_is_nothing_to_tell_once_two_heartbeats_have_said_so() -> None:
    leases = Leases("i")

    def said() -> bool:
        leases.listings()
        return leases.nothing_to_tell()

    assert [said(), said(), said()] == [False, True, True]
    leases.answered_claim(leases.open_claim(1, 0), STORE, [task(1)])
    assert [said(), said()] == [False, False]
    leases.settled(["1-1"])
    assert [said(), said()] == [False, True]
    leases.not_told(leases.listings()[0])
    assert [said(), said()] == [False, True], "one that got no answer said nothing"
    leases.open_claim(1, 25)
    assert said()
    leases.open_claim(1, 0)
    assert not said(), "a claim beside the waiting one, whose number has to be told"
