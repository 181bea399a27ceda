"""Pages of tasks for people: every way to find them, in both stores, and bounded looks."""

from collections.abc import Sequence
from typing import Any

import pytest
from store_kit import Mill

from dispatcher.errors import Invalid
from dispatcher.queue import browse, find, queues
from dispatcher.store.browse import Browse


def ids(mill: Mill, text: str, limit: int = 50) -> list[int]:
    """All pages."""
    found: list[int] = []
    cursor = None
    while True:
        page = browse.page(mill.queue, find.parse(text), cursor, limit)
        assert len(page.rows) <= limit
        found += [row["task_id"] for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.fixture
def full(mill: Mill) -> Mill:
    """1 failed, 2 completed, 3 runs, 4 pending, 5 later, 6 cancelled, 7 failed after 2."""
    for n, (kind, queue) in enumerate([("a", "q1"), ("a", "q2"), ("b", "q1")] * 2 + [("a", "q1")], 1):
        delay = {"delay_ms": 60_000} if n == 5 else {}
        tags = ("even",) if n % 2 == 0 else ()
        data = f'{{"limit":{n},"deep":{{"l":["x{n}",true]}}}}'
        mill.submit(task_type=kind, queue=queue, data=data, max_attempts=1, tags=tags, **delay)
    leases = {lease.task_id: lease for lease in mill.claim("ann", 6).tasks}
    mill.fail(leases[1], "ValueError: bad 17\ntrace")
    mill.clock.forward(1)
    mill.succeed(leases[2])
    mill.give_back(leases[4])
    mill.give_back(leases[6])
    mill.queue.cancel([6])
    mill.clock.forward(1)
    mill.fail(leases[7], "ValueError: bad 18")
    return mill


WANTED = {
    "": [7, 6, 5, 4, 3, 2, 1],
    "status:failed": [7, 1],
    "status:completed": [2],
    "status:cancelled": [6],
    "status:running": [3],
    "status:pending": [5, 4],
    "status:blocked": [],
    "type:b": [6, 3],
    "type:b status:running": [3],
    "queue:q2": [5, 2],
    "queue:q2 status:pending": [5],
    "queue:nothing": [],
    "tag:even": [6, 4, 2],
    "tag:even status:completed": [2],
    "worker:ann": [7, 3, 2, 1],
    "worker:ann status:failed": [7, 1],
    "worker:ann status:running": [3],
    "data.limit:4": [4],
    "data.deep.l:x3": [3],
    "data.deep.l.1:true queue:q2": [5, 2],
    "data.limit:4 status:failed": [],
    "data.deep.nothing.at.all:4": [],
    'error:"ValueError: bad 99"': [7, 1],
    "status:failed TRACE": [1],
    '"valueerror: bad"': [7, 1],
    "x4": [4],
    "x4 x5": [],
}


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_every_way_to_find(full: Mill, limit: int) -> None:
    assert {text: ids(full, text, limit) for text in WANTED} == WANTED


def test_a_long_line_is_looked_through_piece_by_piece(full: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEW", "PIECE", "CLOSELY"):
        monkeypatch.setattr(browse, name, 2)
    assert {text: ids(full, text, 2) for text in WANTED} == WANTED


def test_a_look_ends_in_time_and_goes_on_where_it_was(full: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "CLOSELY", 3)
    first = browse.page(full.queue, find.parse("x1"), None, 50, patience_s=0)
    assert (first.rows, first.looked) == ([], 1)  # one text may be large: time is looked at behind each
    assert [row["task_id"] for row in browse.page(full.queue, find.parse("x1"), first.cursor, 50).rows] == [1]


def test_few_texts_are_held_at_a_time(full: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    listed = Browse.listed

    def counted(self: Browse, ids: Sequence[int]) -> list[dict[str, Any]]:
        held.append(len(ids))
        return listed(self, ids)

    monkeypatch.setattr(browse, "HELD", 2)
    monkeypatch.setattr(Browse, "listed", counted)
    for text, found in WANTED.items():
        assert ids(full, text) == found
    assert max(held) == 2


def test_the_text_of_a_task_is_put_together_once(full: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    text_of = find._text
    monkeypatch.setattr(find, "_text", lambda row: texts.append("") or text_of(row))  # type: ignore[func-returns-value]
    assert ids(full, "limit deep true q1 a x1") == [1]
    assert len(texts) == 7


def test_a_task_held_by_its_key_is_found(mill: Mill) -> None:
    queues.configure(mill.queue, "default", {"key_running": 1})
    held = [mill.one(limit_key="k") for _ in range(3)]
    assert ids(mill, "status:pending") == held[::-1]


def test_failures_are_grouped_by_error(full: Mill) -> None:
    groups, looked = browse.failures(full.queue, find.Find())
    assert looked == 2
    assert [(g.error, g.tasks, g.newest, g.types) for g in groups] == [("ValueError: bad #", 2, 7, ["a"])]


def test_counts_are_known_without_a_look(full: Mill) -> None:
    known = browse.known(full.queue, find.parse("type:a"))
    assert known is not None
    assert (known["failed"], known["completed"], known["pending"]) == (2, 1, 2)
    assert browse.known(full.queue, find.parse("tag:even")) is None


@pytest.mark.parametrize("cursor", ["x", "i", "ix", "e1", "i1-2", "i-1", "e1-2", "i" + "9" * 30])
def test_strange_cursors_are_refused(full: Mill, cursor: str) -> None:
    with pytest.raises(Invalid, match="cursor"):
        browse.page(full.queue, find.Find(), cursor, 5)


@pytest.mark.parametrize("text", [t for t in WANTED if "TRACE" not in t and "running" not in t])
def test_a_search_is_written_as_it_was_read(text: str) -> None:
    assert find.parse(find.parse(text).text()) == find.parse(text)


def test_what_is_wrong_with_a_search_is_said() -> None:
    with pytest.raises(Invalid, match="status: must be one of"):
        find.parse("status:nonsense")
    with pytest.raises(Invalid, match="q: must be at most"):
        find.parse("x" * 501)
    assert find.parse("http://x data.:1 tag: 'a\":").words
