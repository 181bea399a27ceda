"""The prime handler: its result, its settings, its checkpoints."""

import sys
from array import array
from types import ModuleType

import jsonschema_rs
import pytest

from tasks import prime_task, sieves
from tasks.context import Cancelled

METHODS = ["sieve", "trial_division"]
TIMES = {"computation_time", "checkpoint_time", "resume_time"}


def lasting(result):
    """A result without what differs from run to run."""
    return {name: value for name, value in result.items() if name not in {*TIMES, "was_resumed"}}


@pytest.mark.parametrize("method", METHODS)
def test_a_result_has_the_classic_fields(context, method):
    result = prime_task.execute({"limit": 20, "method": method}, context)
    assert lasting(result) == {
        "count": 8,
        "largest": 19,
        "limit": 20,
        "method": method,
        "engine": "numpy" if method == "sieve" else "python",
        "primes": [2, 3, 5, 7, 11, 13, 17, 19],
    }
    assert result["was_resumed"] is False
    assert result["resume_time"] == result["checkpoint_time"] == 0.0
    assert result["computation_time"] > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", [0, 1])
def test_no_primes(context, method, limit):
    result = prime_task.execute({"limit": limit, "method": method}, context)
    assert (result["count"], result["largest"], result["primes"]) == (0, None, [])


@pytest.mark.parametrize("method", METHODS)
def test_a_hundred_thousand(context, method):
    result = prime_task.execute({"limit": 100_000, "method": method}, context)
    assert (result["count"], result["largest"], len(result["primes"])) == (9592, 99_991, 9592)


# The list of primes


def test_a_list_can_be_declined(context):
    result = prime_task.execute({"limit": 100, "return_primes": False}, context)
    assert result["count"] == 25
    assert "primes" not in result
    assert "primes_omitted" not in result


def test_a_long_list_comes_when_asked_for(context):
    result = prime_task.execute({"limit": 200_000, "return_primes": True}, context)
    assert result["primes"] == sieves.small_primes(200_000)


def test_a_long_list_not_asked_for_is_left_out_with_the_reason(context):
    result = prime_task.execute({"limit": 200_000}, context)
    assert "primes" not in result
    reason = "17984 primes are more than the 10000 that a result lists unless return_primes is true"
    assert result["primes_omitted"] == reason


def test_a_list_that_is_too_long_is_left_out_even_when_asked_for(context, monkeypatch):
    monkeypatch.setattr(prime_task, "LONGEST_LIST", 24)
    result = prime_task.execute({"limit": 100, "return_primes": True}, context)
    assert "primes" not in result
    assert result["primes_omitted"] == "25 primes are more than the 24 that a result lists"


def test_a_list_of_just_the_longest_length_stays(context, monkeypatch):
    monkeypatch.setattr(prime_task, "LONGEST_LIST", 25)
    assert len(prime_task.execute({"limit": 100, "return_primes": True}, context)["primes"]) == 25


@pytest.mark.usefixtures("hurried")
def test_a_list_spans_segments(context):
    result = prime_task.execute({"limit": 50_000}, context)
    assert result["primes"] == sieves.small_primes(50_000)


# Settings


def test_a_limit_above_the_setting_is_refused(context, monkeypatch):
    monkeypatch.setenv("PRIMES_MAX_LIMIT", "1000")
    assert prime_task.execute({"limit": 1000}, context)["count"] == 168
    with pytest.raises(ValueError, match="limit 1001 is above PRIMES_MAX_LIMIT=1000"):
        prime_task.execute({"limit": 1001}, context)


def test_the_highest_limit_without_a_setting(context):
    with pytest.raises(ValueError, match="limit 100000001 is above PRIMES_MAX_LIMIT=100000000"):
        prime_task.execute({"limit": 100_000_001}, context)


def test_an_enormous_limit_makes_a_short_message(context):
    with pytest.raises(ValueError, match="is above PRIMES_MAX_LIMIT") as caught:
        prime_task.execute({"limit": 10**4200}, context)
    assert len(str(caught.value)) < 200


def test_a_setting_that_is_no_number_is_named(context, monkeypatch):
    monkeypatch.setenv("PRIMES_MAX_LIMIT", "many")
    with pytest.raises(ValueError, match="PRIMES_MAX_LIMIT=many: not a whole number"):
        prime_task.execute({"limit": 10}, context)


@pytest.mark.parametrize("payload", [{"limit": 10}, {"limit": 10, "method": None}])
def test_the_method_without_one_in_the_payload_is_the_setting(context, monkeypatch, payload):
    assert prime_task.execute(payload, context)["method"] == "sieve"
    monkeypatch.setenv("PRIMES_DEFAULT_METHOD", "trial_division")
    assert prime_task.execute(payload, context)["method"] == "trial_division"
    monkeypatch.setenv("PRIMES_DEFAULT_METHOD", "")
    assert prime_task.execute(payload, context)["method"] == "sieve"


def test_a_wrong_default_method_is_named(context, monkeypatch):
    monkeypatch.setenv("PRIMES_DEFAULT_METHOD", "guess")
    with pytest.raises(ValueError, match="setting PRIMES_DEFAULT_METHOD must be one of sieve, trial_division"):
        prime_task.execute({"limit": 10}, context)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "limit is missing"),
        ({"limit": None}, "limit is missing"),
        ({"limit": -1}, "limit must be at least 0, not -1"),
        ({"limit": "100"}, "limit must be a whole number, not '100'"),
        ({"limit": 10.0}, "limit must be a whole number, not 10.0"),
        ({"limit": True}, "limit must be a whole number, not True"),
        ({"limit": [5]}, r"limit must be a whole number, not \[5\]"),
        ({"limit": 10, "method": "magic"}, "method must be one of sieve, trial_division, not 'magic'"),
        ({"limit": 10, "method": ["sieve"]}, "method must be one of sieve, trial_division, not"),
        ({"limit": 10, "return_primes": 1}, "return_primes must be true or false, not 1"),
    ],
)
def test_wrong_payloads_are_refused_by_name(context, payload, message):
    with pytest.raises(ValueError, match=message):
        prime_task.execute(payload, context)


def test_the_schema_agrees_with_the_handler():
    valid = jsonschema_rs.validator_for(prime_task.PAYLOAD_SCHEMA).is_valid
    assert valid({"limit": 0})
    assert valid({"limit": 5, "method": None, "return_primes": True})
    refused = [{}, {"limit": -1}, {"limit": "5"}, {"limit": True}, {"limit": 5, "method": "x"}]
    assert not any(valid(payload) for payload in refused)


# Progress, checkpoints, cancelling


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("method", METHODS)
def test_progress_rises_to_the_limit(context, method):
    prime_task.execute({"limit": 10_001, "method": method}, context)
    done = [done for done, total in context.progressed if total == 10_001]
    assert done == sorted(done)
    assert len(done) == len(context.progressed) > 5
    assert done[-1] == 10_001


def test_a_short_search_reports_nothing(context):
    prime_task.execute({"limit": 1000}, context)
    assert (context.progressed, context.checkpoints) == ([], [])


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("return_primes", [None, False])
def test_resuming_from_every_checkpoint_gives_the_same(context, make_context, method, return_primes):
    payload = {"limit": 20_000, "method": method, "return_primes": return_primes}
    whole = prime_task.execute(payload, context)
    assert len(context.checkpoints) > 5
    for state in context.checkpoints:
        later = make_context(state)
        resumed = prime_task.execute(payload, later)
        assert lasting(resumed) == lasting(whole)
        assert resumed["was_resumed"] is True
        assert resumed["resume_time"] > 0
        assert len(later.checkpoints) < len(context.checkpoints)


@pytest.mark.usefixtures("hurried")
def test_a_resumed_list_that_is_too_long_stays_left_out(context, make_context, monkeypatch):
    monkeypatch.setattr(prime_task, "SHORT_LIST", 100)
    whole = prime_task.execute({"limit": 20_000}, context)
    resumed = prime_task.execute({"limit": 20_000}, make_context(context.checkpoints[-2]))
    assert lasting(resumed) == lasting(whole)
    assert "primes_omitted" in resumed


@pytest.mark.usefixtures("hurried")
def test_a_checkpoint_is_small(context):
    prime_task.execute({"limit": 20_000, "method": "trial_division"}, context)
    assert all(len(str(state)) < 200 for state in context.checkpoints)


@pytest.mark.parametrize(
    "state",
    [
        "text",
        {},
        {"method": "sieve", "limit": 99, "next": 50, "primes_count": 1000, "largest": 47},
        {"method": "trial_division", "limit": 100, "next": 50, "primes_count": 1000, "largest": 47},
        {"method": "sieve", "limit": 100, "next": "50", "primes_count": 1000, "largest": 47},
        {"method": "sieve", "limit": 100, "next": 50, "largest": 47},
    ],
)
def test_a_checkpoint_of_another_order_or_form_is_not_used(make_context, state):
    result = prime_task.execute({"limit": 100, "method": "sieve"}, make_context(state))
    assert (result["count"], result["was_resumed"]) == (25, False)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cuts", [0, 1, 4])
def test_a_cancelled_search_saves_what_it_has(make_context, method, cuts):
    payload = {"limit": 20_000, "method": method}
    stopped = make_context(cancel_after=cuts)
    with pytest.raises(Cancelled, match="of 20000"):
        prime_task.execute(payload, stopped)
    assert len(stopped.progressed) == cuts
    later = prime_task.execute(payload, make_context(stopped.checkpoints[-1]))
    assert (later["count"], later["was_resumed"]) == (2262, True)
    assert later["primes"] == sieves.small_primes(20_000)


# The primesieve library


@pytest.fixture
def primesieve(monkeypatch):
    """A stand-in with the calls, return types and quirks of primesieve 2.3.4 (tried by hand against the real one)."""
    fake = ModuleType("primesieve")
    fake.threads = []
    fake.set_num_threads = fake.threads.append
    fake.primes = lambda low, last: array("Q", [prime for prime in sieves.small_primes(last) if prime >= low])
    fake.count_primes = lambda low, last: len(fake.primes(low, last))
    fake.nth_prime = lambda n, before: fake.primes(2, before - 1)[n]
    monkeypatch.setitem(sys.modules, "primesieve", fake)
    return fake


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 28, 97, 10_000])
@pytest.mark.parametrize("step", [4, 1000])
def test_primesieve_gives_what_numpy_gives(context, monkeypatch, primesieve, limit, step):
    monkeypatch.setattr(sieves, "PRIMESIEVE_STEP", max(step, limit // 50))
    by_library = prime_task.execute({"limit": limit}, context)
    monkeypatch.setitem(sys.modules, "primesieve", None)
    by_numpy = prime_task.execute({"limit": limit}, context)
    assert by_library.pop("engine") == "primesieve"
    assert by_numpy.pop("engine") == "numpy"
    assert lasting(by_library) == lasting(by_numpy)


@pytest.mark.parametrize(("given", "threads"), [(None, 1), ("", 1), ("4", 4), ("0", 1), ("2,1", 1)])
def test_primesieve_gets_one_thread_unless_told_otherwise(context, monkeypatch, primesieve, given, threads):
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    prime_task.execute({"limit": 10}, context)
    assert primesieve.threads == [threads]


@pytest.mark.usefixtures("hurried")
def test_numpy_goes_on_where_primesieve_stopped(context, make_context, monkeypatch, primesieve):
    monkeypatch.setattr(sieves, "PRIMESIEVE_STEP", 1000)
    prime_task.execute({"limit": 10_000}, context)
    monkeypatch.setitem(sys.modules, "primesieve", None)
    result = prime_task.execute({"limit": 10_000}, make_context(context.checkpoints[3]))
    assert (result["count"], result["engine"], result["was_resumed"]) == (1229, "numpy", True)
    assert result["primes"] == sieves.small_primes(10_000)
