"""Orders to workers at two dispatchers on one database: one gives them, the worker speaks to the other."""

from store_kit import ROUNDS, Mill, race, until, waiting

from dispatcher.model import Orders
from dispatcher.queue.claim import Claim


def test_quiet_against_claim_at_two_dispatchers(mills: list[Mill]) -> None:
    one, other = mills
    for n in range(ROUNDS):
        worker = f"w-{n}"
        one.beat(worker)
        one.submit(3)
        race(lambda w=worker: other.claim(w, 1), lambda w=worker: one.queue.order_worker(w, "quiet"))
        assert list(other.claim(worker, 3).tasks) == []


def test_quiet_against_the_first_claim_of_a_new_instance(mills: list[Mill]) -> None:
    """The order cannot see an instance that another dispatcher is just making: the two meet at the name's own row."""
    one, other = mills
    one.beat("ann")
    for n in range(ROUNDS):
        one.queue.order_worker("ann", "run")
        one.submit(3)
        first, second = (Claim("ann", f"new-{n}", number, 1) for number in (1, 2))
        race(lambda c=first: other.queue.claim(c), lambda: one.queue.order_worker("ann", "quiet"))
        assert list(other.queue.claim(second).tasks) == []


def test_an_order_given_elsewhere_ends_a_wait(mills: list[Mill]) -> None:
    one, other = mills
    one.beat("ann")
    later = waiting(other, "ann", max_tasks=0)
    for state in ("quiet", "run"):
        one.queue.order_worker("ann", state)
        until(lambda later=later: other.queue.look_around() == 0 or later.done)
        assert later.answer().orders == Orders(state)
        later = waiting(other, "ann", max_tasks=0, orders=Orders(state))
    assert other.queue.look_around() == 1, "and not that of one who knows"
    assert not later.done
