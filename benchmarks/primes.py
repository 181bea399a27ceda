"""The primes below 10^8 counted by one task in one child, beside `primesieve` itself where that is installed.

    python benchmarks/primes.py [--limit 100000000] [--rounds 5]

Seconds inside the handler, the best of the rounds: what the machine allows. (For the second figure install
libprimesieve and PyPI's primesieve: then the task uses it too.)
"""

import time

from report import ROOT, arguments, tell

from client.testing import LocalCluster

KNOWN = {10_000_000: 664_579, 100_000_000: 5_761_455}


def reference(limit: int, rounds: int) -> float | None:
    """Seconds that primesieve takes on one thread."""
    try:
        import primesieve
    except ImportError:
        return None
    primesieve.set_num_threads(1)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        assert primesieve.count_primes(limit) == KNOWN[limit]
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=int, choices=list(KNOWN), default=100_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with LocalCluster(1, 1, parent=ROOT) as farm:
        task = {"limit": options.limit, "method": "sieve", "return_primes": False}
        told = [farm.client.result(farm.client.submit("prime", task)) for _ in range(options.rounds + 1)][1:]
    assert all(one["count"] == KNOWN[options.limit] for one in told)
    seconds, own = min(one["computation_time"] for one in told), reference(options.limit, options.rounds)
    figures = {"limit": options.limit, "engine": told[0]["engine"], "seconds": seconds}
    tell("primes", figures if own is None else {**figures, "primesieve_seconds": own, "ratio": seconds / own})


if __name__ == "__main__":
    main()
