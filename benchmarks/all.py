"""All benchmarks, one after the other, and from their figures the tables and plots of docs/speed.md.

    python benchmarks/all.py [--quick] [--only compare backlog …]

In full it takes about 25 minutes on two cores that have nothing else to do, keeps the figures in benchmarks/results/
and writes docs/speed.md. With --quick every benchmark runs in a small size, which only shows that it works: figures and
page go to a temporary folder. It needs wrk and redis-server (apt-get install wrk redis-server).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import page
from report import ROOT, arguments

HERE = Path(__file__).parent


class Step(NamedTuple):
    """A benchmark, with what it is given in full and in a hurry."""

    name: str
    full: str
    quick: str


STEPS = [
    Step("compare", "", "--tasks 300 --singles 20 --rounds 1"),
    Step("throughput", "--rounds 3", "--tasks 300 --flood 600 --singles 30 --rounds 1 --children 1 2"),
    Step("submits", "", "--seconds 1 --rounds 1"),
    Step("latency", "", "--tasks 20 --rounds 1"),
    Step("backlog", "", "--waiting 20000 --unserved 20000 --future 20000 --held 11000 --turns 10"),
    Step("idle_workers", "", "--workers 50 --seconds 2 --tasks 10"),
    Step("idle", "", "--seconds 2"),
    Step("efficiency", "", "--tasks 8 --rounds 1"),
    Step("scaling", "", "--tasks 4 --limit 10000 --children 1 2"),
    Step("recovery", "--rounds 3 --concurrency 1", "--rounds 1 --tasks 100 --concurrency 1"),
    Step("checkpoints", "", "--tasks 8 --steps 10 --rounds 1"),
    Step("disk", "", "--tasks 2000"),
    Step("primes", "", "--limit 10000000 --rounds 1"),
    Step("costs", "", "--seconds 0.2"),
    Step("simulate_workers", "", "--seconds 10"),
]


def run(step: Step, quick: bool, results: Path) -> bool:
    """One benchmark in a process of its own; whether it worked."""
    began = time.monotonic()
    argv = [sys.executable, str(HERE / f"{step.name}.py"), *(step.quick if quick else step.full).split()]
    ended = subprocess.run(argv, env={**os.environ, "BENCH_RESULTS": str(results)}, check=False)
    print(f"-- {step.name}: {time.monotonic() - began:.0f} s, exit code {ended.returncode}", flush=True)
    return ended.returncode == 0


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS])
    options = parser.parse_args()
    results, docs = HERE / "results", ROOT / "docs"
    if options.quick:
        results = docs = Path(tempfile.mkdtemp(prefix="bench-"))
    steps = [step for step in STEPS if not options.only or step.name in options.only]
    failed = [step.name for step in steps if not run(step, options.quick, results)]
    page.write(results, docs)
    print(f"figures in {results}, page and plots in {docs}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
