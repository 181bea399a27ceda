"""The compute handler: each computation's result and its refusals."""

import hashlib
import math

import jsonschema_rs
import pytest

from tasks import compute_task, prime_task
from tasks.context import Cancelled

KNOWN = "hash_chain, matrix_product, monte_carlo_pi, primes, word_count"


@pytest.mark.parametrize("extra", [{}, {"type": "primes"}, {"type": None}])
@pytest.mark.parametrize("method", prime_task.METHODS)
def test_a_limit_finds_primes(context, extra, method):
    result = compute_task.execute({"limit": 100, "method": method, **extra}, context)
    assert (result["count"], result["largest"], result["method"]) == (25, 97, method)


def test_primes_resume_from_a_checkpoint(make_context):
    state = {"method": "sieve", "limit": 100, "next": 51, "primes_count": 15, "largest": 47}
    result = compute_task.execute({"limit": 100, "method": "sieve"}, make_context(state))
    assert (result["count"], result["was_resumed"]) == (25, True)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, f"compute needs a type .one of {KNOWN}., or a limit to find primes"),
        ({"type": "magic"}, f"type must be one of {KNOWN}, not 'magic'"),
        ({"type": "magic", "limit": 10}, f"type must be one of {KNOWN}, not 'magic'"),
        ({"type": ["primes"]}, f"type must be one of {KNOWN}, not"),
        ({"type": "primes"}, "limit is missing"),
        ({"type": "monte_carlo_pi"}, "samples is missing"),
        ({"type": "monte_carlo_pi", "samples": 0}, "samples must be from 1 to 100000000000, not 0"),
        ({"type": "monte_carlo_pi", "samples": 10, "seed": -1}, "seed must be from 0 to 9007199254740992, not -1"),
        ({"type": "matrix_product", "n": 2049}, "n must be from 1 to 2048, not 2049"),
        ({"type": "matrix_product", "n": 2.5}, "n must be a whole number, not 2.5"),
        ({"type": "word_count"}, "text is missing"),
        ({"type": "word_count", "text": 5}, "text must be a text, not 5"),
        ({"type": "word_count", "text": "a", "top": -1}, "top must be from 0 to 10000, not -1"),
        ({"type": "hash_chain", "rounds": 5}, "seed is missing"),
        ({"type": "hash_chain", "seed": "a", "rounds": True}, "rounds must be a whole number, not True"),
        ({"type": "x" * 1000}, "not 'x{76}...$"),
    ],
)
def test_wrong_payloads_are_refused_by_name(context, payload, message):
    with pytest.raises(ValueError, match=message):
        compute_task.execute(payload, context)


def test_the_schema_agrees_with_the_handler():
    valid = jsonschema_rs.validator_for(compute_task.PAYLOAD_SCHEMA).is_valid
    assert valid({"limit": 5, "method": "sieve"})
    assert valid({"type": "word_count", "text": ""})
    assert not valid({})
    assert not valid({"type": "magic"})


# monte_carlo_pi


def test_pi_depends_on_samples_and_seed_alone(context):
    payload = {"type": "monte_carlo_pi", "samples": 250_001, "seed": 7}
    first, second = compute_task.execute(payload, context), compute_task.execute(payload, context)
    other = compute_task.execute({**payload, "seed": 8}, context)
    assert first == second
    assert first["inside"] != other["inside"]
    assert first["pi"] == 4 * first["inside"] / 250_001
    assert abs(first["pi"] - math.pi) < 0.02
    assert (first["samples"], first["seed"]) == (250_001, 7)


def test_pi_of_a_known_seed_never_changes(context):
    result = compute_task.execute({"type": "monte_carlo_pi", "samples": 1_000_000}, context)
    assert result == {"pi": 3.140564, "samples": 1_000_000, "inside": 785_141, "seed": 0}


@pytest.mark.usefixtures("hurried")
def test_pi_shows_progress_and_can_be_cancelled(context, make_context):
    payload = {"type": "monte_carlo_pi", "samples": 250_000}
    compute_task.execute(payload, context)
    assert context.progressed == [(100_000, 250_000), (200_000, 250_000), (250_000, 250_000)]
    with pytest.raises(Cancelled, match="cancelled after 200000 of 250000"):
        compute_task.execute(payload, make_context(cancel_after=1))


# matrix_product


def test_a_product_is_the_same_by_plain_arithmetic(context):
    from numpy.random import PCG64, Generator

    result = compute_task.execute({"type": "matrix_product", "n": 7, "seed": 3}, context)
    left, right = Generator(PCG64(3)).integers(0, 10, (2, 7, 7)).tolist()
    product = [[sum(left[i][k] * right[k][j] for k in range(7)) for j in range(7)] for i in range(7)]
    rows = b"".join(entry.to_bytes(8, "little") for row in product for entry in row)
    assert result == {
        "n": 7,
        "seed": 3,
        "trace": sum(product[i][i] for i in range(7)),
        "checksum": hashlib.sha256(rows).hexdigest(),
    }


def test_a_product_depends_on_size_and_seed_alone(context):
    payload = {"type": "matrix_product", "n": 60}
    first = compute_task.execute(payload, context)
    assert first == compute_task.execute({**payload, "seed": 0}, context)
    assert first["checksum"] != compute_task.execute({**payload, "seed": 1}, context)["checksum"]


# word_count


def test_words_are_counted_and_ranked(context):
    text = "The cat -- the CAT's hat, the 9 lives; snake_case. Ça va? ça va!"
    result = compute_task.execute({"type": "word_count", "text": text, "top": 4}, context)
    assert result == {"total": 14, "unique": 10, "top": [["the", 3], ["va", 2], ["ça", 2], ["9", 1]]}


def test_no_words(context):
    result = compute_task.execute({"type": "word_count", "text": " -- "}, context)
    assert result == {"total": 0, "unique": 0, "top": []}


def test_ten_words_are_listed_unless_told_otherwise(context):
    text = " ".join(f"w{number:02}" for number in range(20))
    assert len(compute_task.execute({"type": "word_count", "text": text}, context)["top"]) == 10
    assert compute_task.execute({"type": "word_count", "text": text, "top": 0}, context)["top"] == []


# hash_chain


def test_a_chain_of_one_and_of_three(context):
    once = hashlib.sha256("Zürich".encode())
    payload = {"type": "hash_chain", "seed": "Zürich"}
    assert compute_task.execute({**payload, "rounds": 1}, context) == {"digest": once.hexdigest(), "rounds": 1}
    thrice = hashlib.sha256(hashlib.sha256(once.digest()).digest()).hexdigest()
    assert compute_task.execute({**payload, "rounds": 3}, context) == {"digest": thrice, "rounds": 3}


@pytest.mark.usefixtures("hurried")
def test_a_chain_shows_progress_and_can_be_cancelled(context, make_context):
    payload = {"type": "hash_chain", "seed": "", "rounds": 25_000}
    compute_task.execute(payload, context)
    assert context.progressed == [(10_000, 25_000), (20_000, 25_000), (25_000, 25_000)]
    with pytest.raises(Cancelled):
        compute_task.execute(payload, make_context(cancel_after=0))
