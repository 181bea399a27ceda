"""compute: one of several computations, named by `type`; without a `type`, primes (the classic form).

Every result depends on the payload alone: the same on each machine and at each attempt. Bad fields raise ValueError.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from tasks import prime_task
from tasks.context import Context, Ticker
from tasks.fields import choice, text, whole_number

Fields = dict[str, Any]

DRAWS_PER_STEP = 100_000  # part of the meaning of a seed: other steps would draw other points
ROUNDS_PER_STEP = 10_000
MAX_SAMPLES = 10**11
MAX_ROUNDS = 10**11
MAX_SIDE = 2_048  # some 200 MiB in all
MAX_SEED = 2**53

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def execute(payload: Fields, context: Context) -> Fields:
    """What the computation of that `type` returns."""
    kind = payload.get("type")
    if kind is None and "limit" in payload:
        return prime_task.execute(payload, context)
    if kind is None:
        raise ValueError(f"compute needs a type (one of {', '.join(COMPUTATIONS)}), or a limit to find primes")
    return COMPUTATIONS[choice(kind, "type", COMPUTATIONS)](payload, context)


def monte_carlo_pi(payload: Fields, context: Context) -> Fields:
    """Pi from `samples` random points of the unit square, of which `inside` lie within the quarter circle."""
    from numpy.random import PCG64, Generator  # here, since only two computations pay for numpy

    samples = whole_number(payload, "samples", 1, MAX_SAMPLES)
    seed = whole_number(payload, "seed", 0, MAX_SEED, default=0)
    generator, ticker, inside = Generator(PCG64(seed)), Ticker(context, samples), 0
    for done in range(0, samples, DRAWS_PER_STEP):
        step = min(DRAWS_PER_STEP, samples - done)
        x, y = generator.random((2, step))
        inside += int((x * x + y * y <= 1.0).sum())
        ticker.tick(done + step)
    return {"pi": 4 * inside / samples, "samples": samples, "inside": inside, "seed": seed}


def matrix_product(payload: Fields, context: Context) -> Fields:
    """The product of two random n x n matrices of the digits 0 to 9: its trace, and a SHA-256 of its rows.

    The entries are whole numbers far below 2^53, so that every BLAS, in whatever order it adds, agrees to the last bit.
    """
    from numpy.random import PCG64, Generator

    n = whole_number(payload, "n", 1, MAX_SIDE)
    seed = whole_number(payload, "seed", 0, MAX_SEED, default=0)
    left, right = Generator(PCG64(seed)).integers(0, 10, (2, n, n)).astype("<f8")
    product = left @ right
    checksum = hashlib.sha256(product.astype("<i8").tobytes()).hexdigest()
    return {"n": n, "seed": seed, "trace": int(product.trace()), "checksum": checksum}


def word_count(payload: Fields, context: Context) -> Fields:
    """Words of `text`, all and different ones, and the `top` (10) most frequent; ties in the order of the alphabet."""
    top = whole_number(payload, "top", 0, 10_000, default=10)
    counts = Counter(_WORD.findall(text(payload, "text").casefold()))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {"total": counts.total(), "unique": len(counts), "top": [list(item) for item in ranked[:top]]}


def hash_chain(payload: Fields, context: Context) -> Fields:
    """SHA-256 applied `rounds` times over, first to the UTF-8 bytes of the text `seed`, then to each digest."""
    value = text(payload, "seed").encode()
    rounds = whole_number(payload, "rounds", 1, MAX_ROUNDS)
    ticker = Ticker(context, rounds)
    for done in range(0, rounds, ROUNDS_PER_STEP):
        step = min(ROUNDS_PER_STEP, rounds - done)
        for _ in range(step):
            value = hashlib.sha256(value).digest()
        ticker.tick(done + step)
    return {"digest": value.hex(), "rounds": rounds}


COMPUTATIONS: dict[str, Callable[[Fields, Context], Fields]] = {
    "hash_chain": hash_chain,
    "matrix_product": matrix_product,
    "monte_carlo_pi": monte_carlo_pi,
    "primes": prime_task.execute,
    "word_count": word_count,
}

PAYLOAD_SCHEMA: Fields = {
    "type": "object",
    "properties": {"type": {"enum": [*COMPUTATIONS, None]}},
    "anyOf": [{"required": ["type"]}, {"required": ["limit"]}],
}
