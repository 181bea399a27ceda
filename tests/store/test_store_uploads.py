"""Results put raw under a lease: parts, whole, referred to by the report (DESIGN section 5; I1, I4, I5)."""

import hashlib
from collections.abc import Iterator

import pytest
from store_kit import DAY, ROUNDS, SECOND, Mill, name, race

from dispatcher.errors import Foreign, NotFound, Unavailable
from dispatcher.model import Granted, LeaseName, State, Upload
from dispatcher.queue.report import Verdict


def put(mill: Mill, lease: Granted, *parts: bytes, store_id: str | None = None) -> Upload:
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for part in parts:
            digest.update(part)
            yield part

    store_id = mill.store.store_id if store_id is None else store_id
    return mill.queue.upload(name(lease), store_id, "image/png", hashed(), digest)


def stored(mill: Mill, task_id: int) -> bytes:
    return b"".join(mill.queue.result_parts(task_id))


def leased(mill: Mill, **fields: object) -> Granted:
    mill.one(**fields)
    return mill.lease()


def test_uploaded_result_comes_back_whole(mill: Mill) -> None:
    lease = leased(mill)
    parts = (b"a" * 2**20, b"b" * 2**20, b"c" * 7)
    upload = put(mill, lease, *parts)
    assert upload == Upload(2 * 2**20 + 7, hashlib.sha256(b"".join(parts)).hexdigest(), "image/png")
    assert mill.succeed(lease, upload=upload) == Verdict.ACCEPTED
    assert stored(mill, lease.task_id) == b"".join(parts)
    shown = mill.queue.task(lease.task_id)
    assert (shown["result"], shown["bytes"], shown["sha256"]) == (None, upload.bytes, upload.sha256)
    assert mill.succeed(lease, upload=upload) == Verdict.DUPLICATE


def test_result_is_not_shown_before_its_report(mill: Mill) -> None:
    lease = leased(mill)
    put(mill, lease, b"early")
    assert stored(mill, lease.task_id) == b""
    assert mill.queue.task(lease.task_id)["bytes"] is None


@pytest.mark.parametrize("wrong", [
    {"sha256": "0" * 64}, {"bytes": 4}, {"media_type": "text/plain"},
])  # fmt: skip
def test_report_that_refers_to_something_else_is_invalid(mill: Mill, wrong: dict[str, object]) -> None:
    lease = leased(mill)
    upload = put(mill, lease, b"bytes")
    assert mill.succeed(lease, upload=upload._replace(**wrong)) == Verdict.INVALID
    assert mill.state(lease.task_id) == State.IN_PROGRESS
    assert mill.succeed(lease, upload=upload) == Verdict.ACCEPTED


def test_report_without_its_upload_is_invalid(mill: Mill) -> None:
    lease = leased(mill)
    assert mill.succeed(lease, upload=Upload(1, "0" * 64, "image/png")) == Verdict.INVALID
    mill.expire()
    assert mill.succeed(lease, upload=Upload(1, "0" * 64, "image/png")) == Verdict.INVALID
    assert mill.state(lease.task_id) == State.PENDING


def test_put_again_replaces_before_the_report(mill: Mill) -> None:
    lease = leased(mill)
    put(mill, lease, b"first", b"second", b"third")
    upload = put(mill, lease, b"other")
    assert mill.succeed(lease, upload=upload) == Verdict.ACCEPTED
    assert stored(mill, lease.task_id) == b"other"


@pytest.mark.parametrize("parts", [(b"other",), (b"the result",), ()])
def test_i4_put_again_after_the_report_changes_nothing(mill: Mill, parts: tuple[bytes, ...]) -> None:
    """A worker that never saw its report answered puts again; what was acknowledged stands."""
    lease = leased(mill)
    upload = put(mill, lease, b"the ", b"result")
    mill.succeed(lease, upload=upload)
    put(mill, lease, *parts)
    assert stored(mill, lease.task_id) == b"the result"
    assert mill.succeed(lease, upload=upload) == Verdict.DUPLICATE


def test_i1_put_that_breaks_off_after_the_report_destroys_nothing(mill: Mill) -> None:
    lease = leased(mill)
    upload = put(mill, lease, b"the ", b"result")
    mill.succeed(lease, upload=upload)

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        mill.queue.upload(name(lease), mill.store.store_id, "image/png", broken(), hashlib.sha256())
    assert stored(mill, lease.task_id) == b"the result"


def test_put_that_breaks_off_is_no_upload(mill: Mill) -> None:
    lease = leased(mill)
    whole = put(mill, lease, b"whole")

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        mill.queue.upload(name(lease), mill.store.store_id, "image/png", broken(), hashlib.sha256())
    assert mill.succeed(lease, upload=whole) == Verdict.INVALID
    assert mill.succeed(lease, upload=put(mill, lease, b"whole")) == Verdict.ACCEPTED


def test_of_two_puts_at_once_the_later_goes_on_and_nothing_mixes(mill: Mill) -> None:
    """Two actors: the second put begins in the middle of the first, whose next part finds that out."""
    lease = leased(mill)
    whole = []

    def interrupted() -> Iterator[bytes]:
        yield b"one"
        whole.append(put(mill, lease, b"uno", b"due", b"tre"))
        yield b"two"

    with pytest.raises(Unavailable):
        mill.queue.upload(name(lease), mill.store.store_id, "image/png", interrupted(), hashlib.sha256())
    assert mill.succeed(lease, upload=whole[0]) == Verdict.ACCEPTED
    assert stored(mill, lease.task_id) == b"unoduetre"


def test_put_that_was_overtaken_between_its_last_part_and_its_end_is_not_whole(mill: Mill) -> None:
    lease = leased(mill)

    def overtaken() -> Iterator[bytes]:
        yield b"one"
        mill.store.write(lambda tx: tx.put_part(name(lease), 0, b"two", upload=7))

    with pytest.raises(Unavailable):
        mill.queue.upload(name(lease), mill.store.store_id, "image/png", overtaken(), hashlib.sha256())
    assert mill.store.write(lambda tx: tx.upload(name(lease))) is None


def test_puts_at_once_leave_one_of_them_whole(mill: Mill) -> None:
    """Two actors, in threads."""
    for _ in range(ROUNDS // 2):
        lease = leased(mill)

        def attempt(letter: bytes, lease: Granted = lease) -> Upload | None:
            try:
                return put(mill, lease, letter * 3, letter * 3, letter * 3)
            except Unavailable:
                return None

        wholes = [one for one in race(lambda: attempt(b"a"), lambda: attempt(b"b")) if one]
        assert wholes, "the later one goes on"
        declared = mill.store.write(lambda tx, lease=lease: tx.upload(name(lease)))
        assert declared in wholes
        assert mill.succeed(lease, upload=declared) == Verdict.ACCEPTED
        assert hashlib.sha256(stored(mill, lease.task_id)).hexdigest() == declared.sha256


def test_late_success_with_an_upload(mill: Mill) -> None:
    lease = leased(mill)
    mill.expire()
    other = mill.lease("bob")
    put(mill, other, b"other")
    upload = put(mill, lease, b"late")
    assert mill.succeed(lease, upload=upload) == Verdict.ACCEPTED_LATE
    assert stored(mill, lease.task_id) == b"late"
    assert mill.succeed(lease, upload=upload) == Verdict.DUPLICATE


def test_loser_with_an_upload_is_superseded_whether_it_is_there_or_not(mill: Mill) -> None:
    lease = leased(mill)
    mill.expire()
    mill.succeed(mill.lease("bob"), '"won"')
    assert mill.succeed(lease, upload=Upload(4, "0" * 64, "image/png")) == Verdict.SUPERSEDED
    assert mill.succeed(lease, upload=put(mill, lease, b"late")) == Verdict.SUPERSEDED
    assert (mill.result(lease.task_id), stored(mill, lease.task_id)) == ('"won"', b"")


def test_i5_winner_with_an_upload_stays_a_duplicate_after_a_retry(mill: Mill) -> None:
    lease = leased(mill)
    upload = put(mill, lease, b"won")
    mill.succeed(lease, upload=upload)
    mill.queue.retry([lease.task_id])
    assert mill.succeed(lease, upload=upload) == Verdict.DUPLICATE
    assert stored(mill, lease.task_id) == b""


def test_put_needs_a_known_lease_of_this_store(mill: Mill) -> None:
    lease = leased(mill)
    with pytest.raises(Foreign):
        put(mill, lease, b"x", store_id="another")
    with pytest.raises(NotFound):
        put(mill, lease._replace(token=lease.token ^ 1), b"x")
    assert mill.store.write(lambda tx: tx.upload(LeaseName(lease.task_id, lease.token ^ 1))) is None


def test_empty_result_is_an_upload(mill: Mill) -> None:
    lease = leased(mill)
    upload = put(mill, lease)
    assert upload.bytes == 0
    assert mill.succeed(lease, upload=upload) == Verdict.ACCEPTED
    assert stored(mill, lease.task_id) == b""


def test_uploads_go_with_their_task(mill: Mill) -> None:
    lease = leased(mill)
    upload = put(mill, lease, b"x")
    mill.succeed(lease, upload=upload)
    mill.clock.forward(1)
    assert mill.prune() == 1
    assert mill.store.write(lambda tx: tx.upload(name(lease))) is None


def test_losers_uploads_are_dropped_a_day_after_the_end(mill: Mill) -> None:
    lease = leased(mill)
    put(mill, lease, b"lost")
    mill.expire()
    winner = mill.lease("bob")
    upload = put(mill, winner, b"won")
    mill.succeed(winner, upload=upload)
    mill.clock.forward(DAY / SECOND - 1)
    mill.prune(completed_ms=30 * DAY)
    assert mill.store.write(lambda tx: tx.upload(name(lease)))
    mill.clock.forward(2)
    mill.prune(completed_ms=30 * DAY)
    assert mill.store.write(lambda tx: tx.upload(name(lease))) is None
    assert stored(mill, lease.task_id) == b"won"


def test_upload_of_a_lost_lease_is_kept_while_it_may_still_win(mill: Mill) -> None:
    lease = leased(mill)
    upload = put(mill, lease, b"late")
    mill.expire()
    mill.clock.forward(3 * DAY / SECOND)
    mill.prune()
    assert mill.succeed(lease, upload=upload) == Verdict.ACCEPTED_LATE
