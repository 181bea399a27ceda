"""Taskmill beside its peers, in turns in one run: no-op tasks submitted at once, and one at a time on idle workers.

    python benchmarks/compare.py [--tasks 10000] [--singles 200] [--rounds 5] [--systems taskmill huey …]

The peers are installed from PyPI into an environment of their own (`--venv`), where they are not yet; Redis is the
system's (apt-get install redis-server), PostgreSQL that of the tests. A round starts each system anew, with two
processes that run tasks, and the settings that made it fastest (`peers/*.py`). What differs is durability: Taskmill,
Huey and those on PostgreSQL have every submit and result on disk when it is acknowledged; Redis syncs once a second.
Each ratio is the median over the rounds of that in one round, where the machine is the same: before each system a loop
of pure Python tells how fast it is (`measuring.Pace`).
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import services
from measuring import Pace
from report import ROOT, arguments, spread, tell

PEERS = Path(__file__).parent / "peers"
VENV = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "taskmill-bench" / "peers"
ROUND_S = 600
OBAN = "oban==0.7.0"


class System(NamedTuple):
    """An adapter beside `peers/round.py`, and what it stands on."""

    adapter: str
    stands_on: str = ""
    at_a_time: int = 0  # tasks that a worker of it takes; 0: as it does by default


SYSTEMS = {
    "taskmill": System("taskmill_sqlite"),
    "huey": System("huey_sqlite"),
    "saq": System("saq_redis", "redis"),
    "celery": System("celery_redis", "redis"),
    "pgqueuer": System("pgqueuer_pg", "postgres"),
    "pgqueuer-1000": System("pgqueuer_pg", "postgres", 1000),
    "oban": System("oban_pg", "postgres"),
}


def install(venv: Path) -> None:
    """The peers from PyPI, unless they are there, for the very Python that runs Taskmill: a third of the speed may lie
    in how it was built. Oban asks for Python 3.12: for one statement, which names a type."""
    complete, python = venv / "complete", f"{sys.base_prefix} {sys.version}\n"
    if complete.exists() and complete.read_text() == python:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "-r", str(PEERS / "requirements.txt")], check=True)
    subprocess.run([*pip, "--ignore-requires-python", OBAN], check=True)
    if sys.version_info < (3, 12):
        for job in venv.glob("lib/python*/site-packages/oban/job.py"):
            job.write_text(re.sub(r"^type Result\[T\] = .*$", "Result = list", job.read_text(), flags=re.M))
    complete.write_text(python)


class Bench:
    """Runs rounds of systems, each in a folder of its own, on servers that last as long as the `with` block."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".taskmill-", dir=ROOT))
        self._options, self._folder = options, Path(folder)
        wanted = {SYSTEMS[name].stands_on for name in options.systems}
        self._postgres = stack.enter_context(services.postgres()).url if "postgres" in wanted else ""

    def round(self, name: str) -> dict[str, Any]:
        """The figures of one system in one round."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            with self._url(SYSTEMS[name], folder) as url:
                return self._measured(name, {"PEER_FOLDER": str(folder), "PEER_URL": url}, folder)
        finally:
            shutil.rmtree(folder)

    @contextmanager
    def _url(self, system: System, folder: Path) -> Iterator[str]:
        """That of an empty broker or database."""
        if system.stands_on == "redis":
            with services.redis(folder) as url:
                yield url
        elif system.stands_on == "postgres":
            with services.database(self._postgres) as url:
                yield url
        else:
            yield ""

    def _measured(self, name: str, own: dict[str, str], folder: Path) -> dict[str, Any]:
        python = sys.executable if name == "taskmill" else str(self._options.venv / "bin" / "python")
        system = SYSTEMS[name]
        argv = [python, str(PEERS / "round.py"), system.adapter]
        argv += [str(self._options.tasks), str(self._options.singles)]
        if system.at_a_time:
            own = {**own, "PEER_AT_A_TIME": str(system.at_a_time)}
        with (folder / "log").open("w+") as log:
            process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **own}, start_new_session=True
            )
            try:
                told, _ = process.communicate(timeout=ROUND_S)
            finally:
                end_group(process.pid)
            if process.returncode:
                raise SystemExit(f"{name}: {(folder / 'log').read_text()[-3000:]}")
        return dict(json.loads(told))


def end_group(group: int) -> None:
    """End what a round may have left behind."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def figures(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one system: medians over its rounds, times of all rounds together."""
    rates = [one["tasks_per_s"] for one in rounds]
    return {
        "tasks_per_s": statistics.median(rates),
        "rounds": [(one["tasks_per_s"], one["loop_ms"]) for one in rounds],
        "least_per_s": min(rates),
        "most_per_s": max(rates),
        "enqueue_per_s": statistics.median(one["enqueue_per_s"] for one in rounds),
        **spread([ms for one in rounds for ms in one["singles_ms"]]),
    }


def ratios(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, float]:
    """How many times as fast, and how many times as long one task takes (below 1: less)."""

    def of_times(at: str) -> float:
        return statistics.median(
            spread(a["singles_ms"])[at] / spread(b["singles_ms"])[at] for a, b in zip(ours, theirs, strict=True)
        )

    faster = [a["tasks_per_s"] / b["tasks_per_s"] for a, b in zip(ours, theirs, strict=True)]
    return {"throughput": statistics.median(faster), "p50": of_times("p50_ms"), "p99": of_times("p99_ms")}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--singles", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--venv", type=Path, default=VENV)
    options = parser.parse_args()
    if set(options.systems) - {"taskmill"}:
        install(options.venv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that what was started is ended
    with ExitStack() as stack:
        bench = Bench(options, stack)
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in options.systems}
        pace = Pace()
        for turn in range(options.rounds):
            for name in options.systems if turn % 2 == 0 else reversed(options.systems):
                loop_ms = pace.note()
                rounds[name].append({**bench.round(name), "loop_ms": loop_ms})
                rate = rounds[name][-1]["tasks_per_s"]
                print(f"round {turn + 1}: {name} {rate:,.0f} tasks/s (loop {loop_ms:.0f} ms)", flush=True)
    show(options, rounds, pace)


def show(options: argparse.Namespace, rounds: dict[str, list[dict[str, Any]]], pace: Pace) -> None:
    """A line for each system, and the JSON."""
    of = {name: figures(told) for name, told in rounds.items()}
    against = {name: ratios(rounds["taskmill"], told) for name, told in rounds.items() if "taskmill" in rounds}
    for name, told in of.items():
        words = f"{name:13} {told['tasks_per_s']:9,.0f} tasks/s, one takes {told['p50_ms']:6.1f} ms"
        words += f" (p99 {told['p99_ms']:6.1f})"
        if name in against:
            times = against[name]
            words += f"; Taskmill {times['throughput']:5.1f} x as many, {times['p50']:5.2f} x as long"
        print(words)
    sizes = {"tasks": options.tasks, "singles": options.singles, "rounds": options.rounds}
    tell("compare", {**sizes, **pace.told(), "systems": of, "taskmill_against": against})


if __name__ == "__main__":
    main()
