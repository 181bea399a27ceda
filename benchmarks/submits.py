"""Single durable submits over HTTP, `wrk` as the load: how many a second are acknowledged, and are they all there?

    python benchmarks/submits.py [--seconds 10] [--connections 16] [--rounds 3]        (apt-get install wrk)

Each request is one task with an idempotency key. Afterwards the dispatcher is stopped and started again, and counts: at
least what was acknowledged, at most that and one more for each connection, whose answer wrk did not wait for.
"""

import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

import services
from report import ROOT, arguments, tell

from client.testing import LocalCluster

SCRIPT, THREADS = Path(__file__).with_name("submits.lua"), 2


def load(url: str, seconds: int, connections: int) -> dict[str, Any]:
    """What wrk counted."""
    argv = [services.program("wrk", "wrk"), f"-t{THREADS}", f"-c{connections}", f"-d{seconds}", "-s", str(SCRIPT), url]
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(out.strip().splitlines()[-1]))


def run(seconds: int, connections: int) -> dict[str, Any]:
    """The figures of one round, checked."""
    with LocalCluster(0, 1, parent=ROOT) as farm:
        told = load(farm.client.url, seconds, connections)
        farm.dispatcher.kill()
        farm.start_dispatcher()
        stored = farm.client.stats()["pending_tasks"]
        assert told["acknowledged"] <= stored <= told["acknowledged"] + connections, (told, stored)
        assert told["refused"] == told["failed"] == 0, told
    return {**told, "stored": stored, "acknowledged_per_s": told["acknowledged"] / told["seconds"]}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = [run(options.seconds, options.connections) for _ in range(options.rounds)]
    names = ("acknowledged_per_s", "p50_ms", "p99_ms")
    medians = {name: statistics.median(one[name] for one in rounds) for name in names}
    sizes = {"connections": options.connections, "seconds": options.seconds, "rounds": options.rounds}
    tell("submits", {**sizes, **medians, "acknowledged": sum(one["acknowledged"] for one in rounds), "lost": 0})


if __name__ == "__main__":
    main()
