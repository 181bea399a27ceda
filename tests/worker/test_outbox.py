"""I7: the outbox forgets nothing, executes nothing, and one bad entry harms no other."""

import json
import os
import pickle
import sqlite3
from pathlib import Path

import pytest
from doubles import STORE, open_outbox, outcome

from worker.disk import Database, RawDisk
from worker.outbox import Outbox
from worker.quarantine import Quarantine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "home" / "0123456789abcdef0123456789abcdef"
    (made / "outbox").mkdir(parents=True)
    (made / "spool").mkdir()
    return made


def lease_ids(outbox: Outbox) -> list[list[str]]:
    return [entry.lease_ids for entry in outbox.entries.values()]


def filled(folder: Path, count: int) -> None:
    """`count` entries of one outcome each, and the outbox closed."""
    outbox = open_outbox(folder)
    database = outbox._db
    values = {}
    for number in range(1, count + 1):
        values[b"%016d" % number] = sealed(number)
    database.change(values, [])
    outbox.close()


def sealed(number: int) -> bytes:
    from worker.outbox import _sealed

    return _sealed({"refused": 0.0, "spool": None}, outcome(number).body.encode())


def rows(folder: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(folder / "outbox" / "cache.db")
    try:
        with connection:
            return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted((folder.parent / "quarantine").glob("*.json"))]


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_a_restart_finds_every_entry_oldest_first(folder: Path) -> None:
    outbox = open_outbox(folder)
    outbox.put([outcome(1), outcome(2, "failed", error="ValueError: ü\n")])
    outbox.put([outcome(3)])
    outbox.close()

    again = open_outbox(folder)

    assert lease_ids(again) == [["1-1", "2-1"], ["3-1"]]
    assert again.leases == [("1-1", STORE, 1), ("2-1", STORE, 2), ("3-1", STORE, 3)]
    first = next(iter(again.entries.values()))
    assert (
        again.lines(first).decode()
        == f"{outcome(1).body}\n{outcome(2, 'failed', error='ValueError: ü' + chr(10)).body}"
    )
    again.put([outcome(4)])
    assert lease_ids(again)[-1] == ["4-1"]


def test_an_entry_is_durable_when_put_returns(folder: Path) -> None:
    """Another connection sees it, though the first was never closed; and every commit is synchronous."""
    outbox = open_outbox(folder)
    outbox.put([outcome(1)])
    assert rows(folder, "SELECT count(*) FROM Cache") == [(1,)]
    assert rows(folder, "SELECT value FROM Settings WHERE key = 'sqlite_synchronous'") == [(2,)]


def test_settled_entries_go_with_the_next_write_or_the_sweep(folder: Path) -> None:
    outbox = open_outbox(folder)
    first, second = outbox.put([outcome(1)]), outbox.put([outcome(2)])
    outbox.settle(first)
    assert lease_ids(outbox) == [["2-1"]]
    outbox.put([outcome(3)])
    assert rows(folder, "SELECT count(*) FROM Cache") == [(2,)]
    outbox.settle(second)
    outbox.sweep()
    assert lease_ids(open_outbox(folder)) == [["3-1"]]


def test_what_is_settled_and_not_removed_yet_does_not_come_back_when_the_database_is_opened_anew(folder: Path) -> None:
    outbox = open_outbox(folder)
    outbox.put([outcome(1)])
    outbox.settle(outbox.put([outcome(2)]))
    outbox.reopen()
    assert lease_ids(outbox) == [["1-1"]]
    outbox.put([outcome(3)])  # under a number of its own, or it would be removed with the settled one
    assert lease_ids(outbox) == lease_ids(open_outbox(folder)) == [["1-1"], ["3-1"]]


def test_what_has_no_verdict_is_rewritten(folder: Path) -> None:
    outbox = open_outbox(folder)
    entry = outbox.put([outcome(number) for number in range(1, 6)])
    outbox.keep(entry, [1, 3])
    again = open_outbox(folder)
    assert lease_ids(again) == [["2-1", "4-1"]]


def test_a_split_entry_keeps_all_its_outcomes(folder: Path) -> None:
    outbox = open_outbox(folder)
    outbox.split(outbox.put([outcome(number) for number in range(1, 4)]))
    assert sorted(lease_ids(open_outbox(folder))) == [["1-1"], ["2-1", "3-1"]]


def test_the_time_of_refusals_survives_a_restart(folder: Path) -> None:
    outbox = open_outbox(folder)
    outbox.age(outbox.put([outcome(1)]), 120.5)
    [entry] = open_outbox(folder).entries.values()
    assert entry.refused_seconds == 120.5


def test_the_size_follows_entries_and_spool_files(folder: Path) -> None:
    outbox = open_outbox(folder)
    large = folder / "spool" / "2-1"
    large.write_bytes(b"x" * 5000)
    entry = outbox.put([outcome(2, spool=large, result_ref={})])
    assert outbox.size > 5000
    outbox.settle(entry)
    assert outbox.size == 0
    assert not large.exists()


def test_a_newline_between_tokens_and_odd_text_do_not_break_an_entry(folder: Path) -> None:
    outbox = open_outbox(folder)
    pretty = outcome(1)
    odd = outcome(2)
    pretty = pretty._replace(body=json.dumps(json.loads(pretty.body), indent=1))
    odd = odd._replace(body=odd.body.replace('{"n": 2}', '"\udc80"'))
    outbox.put([pretty, odd])
    assert lease_ids(open_outbox(folder)) == [["1-1", "2-1"]]


def test_among_a_thousand_entries_only_the_damaged_ones_are_put_aside(folder: Path, tmp_path: Path) -> None:
    filled(folder, 1000)
    mark = tmp_path / "executed"
    bomb = pickle.dumps(Bomb(mark))
    (folder / "outbox" / "planted.val").write_bytes(bomb)
    for number in range(0, 100, 4):
        key = [b"%016d" % (10 * number + place) for place in range(1, 6)]
        flipped = bytearray(sealed(10 * number + 1))
        flipped[90] ^= 0x40
        rows(folder, "UPDATE Cache SET value = ? WHERE key = ?", bytes(flipped), key[0])
        rows(folder, "UPDATE Cache SET value = substr(value, 1, 80) WHERE key = ?", key[1])
        rows(folder, "UPDATE Cache SET value = ?, mode = 4 WHERE key = ?", bomb, key[2])
        rows(folder, "UPDATE Cache SET key = ?, raw = 0 WHERE key = ?", pickle.dumps((number, Bomb(mark))), key[3])
        rows(folder, "UPDATE Cache SET value = NULL, mode = 4, filename = 'planted.val' WHERE key = ?", key[4])

    outbox = open_outbox(folder)

    assert len(outbox.entries) == 1000 - 125
    assert len(records(folder)) == 125
    assert all(str(record["reason"]).startswith("damaged") for record in records(folder))
    assert not mark.exists()
    assert (folder / "outbox" / "planted.val").exists(), "a file that a row names is not ours to delete"
    outbox.close()
    assert len(open_outbox(folder).entries) == 875
    assert len(records(folder)) == 125, "what is put aside is put aside once"


def test_damage_that_comes_later_is_noticed_when_the_entry_is_read(folder: Path) -> None:
    outbox = open_outbox(folder)
    entry = outbox.put([outcome(1)])
    entry.lines = b""
    rows(folder, "UPDATE Cache SET value = substr(value, 1, 80)")
    assert outbox.lines(entry) == b""
    assert len(records(folder)) == 1
    assert not outbox.entries


@pytest.mark.parametrize("planted", [{"spool": "../../../etc/passwd"}, {"spool": ".."}, {"refused": "much"}])
def test_a_header_with_a_right_checksum_is_not_trusted(folder: Path, planted: dict[str, object]) -> None:
    from worker.outbox import _sealed

    database = Database(folder / "outbox")
    header = {"refused": 0.0, "spool": None, **planted}
    database.change({b"%016d" % 1: _sealed(header, outcome(1).body.encode())}, [])
    database.close()
    assert not open_outbox(folder).entries
    assert len(records(folder)) == 1


def test_a_database_that_is_none_is_moved_aside(folder: Path) -> None:
    (folder / "outbox" / "cache.db").write_bytes(b"this is no database" * 1000)
    outbox = open_outbox(folder)
    assert not outbox.entries
    outbox.put([outcome(1)])
    outbox.close()
    assert (folder.parent / "quarantine" / "cache.db.corrupt-1").read_bytes().startswith(b"this is no")
    (folder / "outbox" / "cache.db").write_bytes(b"nor is this")
    open_outbox(folder)
    assert (folder.parent / "quarantine" / "cache.db.corrupt-2").exists()


def test_a_foreign_schema_is_moved_aside(folder: Path) -> None:
    rows(folder, "CREATE TABLE Cache (colour TEXT)")
    outbox = open_outbox(folder)
    outbox.put([outcome(1)])
    assert (folder.parent / "quarantine" / "cache.db.corrupt-1").exists()


def test_what_can_be_read_of_a_torn_database_goes_on(folder: Path) -> None:
    filled(folder, 1000)
    path = folder / "outbox" / "cache.db"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 8 * 4096] = b"\xff" * (8 * 4096)
    path.write_bytes(data)

    outbox = open_outbox(folder)

    found = {lease for entry in outbox.entries.values() for lease in entry.lease_ids}
    assert 300 < len(found) < 1000
    assert outbox.put([outcome(5000)]).lease_ids == ["5000-1"]
    outbox.close()
    assert len(open_outbox(folder).entries) == len(found) + 1


def test_stored_settings_are_never_trusted(folder: Path) -> None:
    filled(folder, 50)
    for name, value in (("eviction_policy", "least-recently-stored"), ("size_limit", 1), ("cull_limit", 10)):
        rows(folder, "UPDATE Settings SET value = ? WHERE key = ?", value, name)
    outbox = open_outbox(folder)
    outbox.put([outcome(1000)])
    assert len(open_outbox(folder).entries) == 51


def test_nothing_is_dropped_beyond_a_gigabyte_or_any_number(folder: Path) -> None:
    outbox = open_outbox(folder)
    for number in range(1, 41):
        outbox.put([outcome(number, result="x" * 300_000)])
    assert len(open_outbox(folder).entries) == 40
    assert not list((folder / "outbox").rglob("*.val")), "large values stay in the database, whose writes are synced"


def test_only_bytes_are_taken() -> None:
    disk = RawDisk("/nowhere")
    for wrong in ("text", 1, ("a",)):
        with pytest.raises(TypeError):
            disk.put(wrong)
        with pytest.raises(TypeError):
            disk.store(wrong, read=False)


def test_a_quarantined_record_appears_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks while it is written finds none, or all of it, on disk."""
    place, seen = folder.parent / "quarantine", []

    def look(descriptor: int) -> None:
        seen.append([path.read_text() for path in place.glob("*.json")])

    monkeypatch.setattr(os, "fsync", look)
    path = Quarantine(place, "i").keep(b"1", {"reason": "refused", "outcomes": [{"n": 1}]})
    whole = {"instance_id": "i", "reason": "refused", "outcomes": [{"n": 1}]}
    assert json.loads(path.read_text()) == whole
    assert [[json.loads(text) for text in texts] for texts in seen] == [[], [], [whole]]
    assert list(place.iterdir()) == [path]


def test_quarantine_keeps_the_outcomes_and_the_large_result(folder: Path) -> None:
    outbox = open_outbox(folder)
    large = folder / "spool" / "1-1.bin"
    large.write_bytes(b"much")
    outbox.quarantine(outbox.put([outcome(1, spool=large, result_ref={})]), "refused (HTTP 403)")
    outbox.quarantine(outbox.put([outcome(2)]), "refused")
    first, second = records(folder)
    assert first["reason"] == "refused (HTTP 403)"
    assert [one["lease_id"] for one in first["outcomes"]] == ["1-1"]  # type: ignore[attr-defined]
    names = {"store_id": STORE, "task_id": 2, "lease_id": "2-1", "status": "completed"}
    assert second["outcomes"] == [{**names, "result": {"n": 2}, "run_seconds": 0.001}], "for people it has names"
    [kept] = (folder.parent / "quarantine").glob("*.result")
    assert kept.read_bytes() == b"much"
    assert not open_outbox(folder).entries


def test_a_full_disk_is_told_and_passes(folder: Path) -> None:
    """SQLite's own limit stands for the disk: the put raises, the next one after relief works on the same outbox."""
    from worker.disk import DISK_FAULTS

    outbox = open_outbox(folder)
    outbox.put([outcome(1)])
    connection = outbox._db._cache._con
    [(pages,)] = connection.execute("PRAGMA page_count").fetchall()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DISK_FAULTS):
        outbox.put([outcome(2, result="x" * 100_000)])
    outbox.put([outcome(2, result="x" * 100_000)])
    assert lease_ids(open_outbox(folder)) == [["1-1"], ["2-1"]]
