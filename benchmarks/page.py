"""Tables and plots of docs/speed.md and docs/scale.md, from the figures that the benchmarks told.

    python benchmarks/page.py          again, from benchmarks/results/

Only what stands between the markers of a page is written; what was not measured is left out.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import svg
from report import ROOT, told

DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"
TIMES = "\N{MULTIPLICATION SIGN}"
Figures = dict[str, Any]
Part = Callable[[Figures, Path], str]


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    listed = [[str(cell) for cell in row] for row in rows]
    names = list(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *listed])


def plot(folder: Path, name: str, title: str, text: str) -> str:
    """Keeps a plot; the line that shows it."""
    (folder / f"{name}.svg").write_text(text)
    return f"![{title}]({name}.svg)"


def ms(value: float) -> str:
    return f"{svg.shown(value)} ms"


def paced(of: Figures) -> str:
    """How fast the machine was meanwhile, where a loop told it: `measuring.Pace`."""
    if "loop_p50_ms" not in of:
        return ""
    least, middle, most = (of[f"loop_{name}_ms"] for name in ("least", "p50", "most"))
    return f"Meanwhile the same loop of pure Python took {least:.0f} to {most:.0f} ms (median {middle:.0f})."


def compare(of: Figures, folder: Path) -> str:
    systems, against = of["systems"], of["taskmill_against"]
    rates = {name: [f"{one[f'{what}_per_s']:,.0f}" for what in ("tasks", "enqueue")] for name, one in systems.items()}
    ratios = {name: [f"{of['throughput']:.1f} {TIMES}", f"{of['p50']:.2f} {TIMES}"] for name, of in against.items()}
    rows = [
        [name, *rates[name], ms(one["p50_ms"]), ms(one["p99_ms"]), *ratios.get(name, ["", ""])]
        for name, one in systems.items()
    ]
    head = ("", "tasks/s", "submitted/s", "one task p50", "p99", "Taskmill does", "Taskmill takes")
    title = f"No-op tasks per second, end to end ({of['tasks']:,} at once)"
    bars = svg.bars(title, {name: one["tasks_per_s"] for name, one in systems.items()}, "/s")
    return f"{table(head, rows)}\n\n{paced(of)}\n\n{plot(folder, 'speed-compare', title, bars)}"


def throughput(of: Figures, folder: Path) -> str:
    children = of["children"]
    kinds = list(next(iter(children.values())))
    rows = [[count, *(f"{told[kind]['per_s']:,.0f}" for kind in kinds)] for count, told in children.items()]
    title = "Tasks per second by children"
    bulk = [kind for kind in kinds if "bulk" in kind]
    curves = {kind: [(float(n), told[kind]["per_s"]) for n, told in children.items()] for kind in bulk}
    drawn = svg.lines(title, curves, ("children", "tasks/s"))
    told = f"{table(('children', *kinds), rows)}\n\n{paced(of)} {by_pace(of)}"
    return f"{told}\n\n{plot(folder, 'speed-children', title, drawn)}"


def by_pace(of: Figures) -> str:
    """The floods through two children, those first that found the machine fastest."""
    rounds = of["children"].get("2", {}).get("noop flood", {}).get("rounds", ())
    shown = ", ".join(f"{rate:,.0f}/s ({loop_ms:.0f} ms)" for rate, loop_ms in sorted(rounds, key=lambda one: one[1]))
    return f"The floods through two children, with the time of that loop after each: {shown}." if shown else ""


def latency(of: Figures, _: Path) -> str:
    rows = [[name, *(ms(of[f"{prefix}{at}_ms"]) for at in ("p50", "p95", "p99", "max"))]
            for name, prefix in (("idle", ""), (f"children {of['load_share']:.0%} busy", "busy_"))]  # fmt: skip
    between, awake = ms(of["fsync_p50_ms"]), ms(of["fsync_back_to_back_p50_ms"])
    fsync = f"An fsync in the same run, one between each two tasks: p50 {between}; back to back {awake}."
    each = "; ".join(f"{ms(p50)} ({ms(disk)}, {loop:.0f} ms)" for p50, disk, loop in of["rounds"])
    told = f"The idle rounds' p50, with their fsync's and that loop: {each}."
    return f"{table(('system', 'p50', 'p95', 'p99', 'max'), rows)}\n\n{fsync} {paced(of)} {told}"


def backlog(of: Figures, folder: Path) -> str:
    rows = [
        [f"{int(count):,} {name}", *(f"{cost[f'batch_{batch}_{what}']:.2f}{unit}"
         for batch in (1, 64) for what, unit in (("small_ms", " ms"), ("ms", " ms"), ("ratio", f" {TIMES}")))]
        for (count, name), cost in ((label.split(), cost) for label, cost in of["costs"].items())
    ]  # fmt: skip
    head = ("beside", "one: at 10⁴", "here", "ratio", "64: at 10⁴", "here", "ratio")
    title = "Claim and report of 64 tasks, against 10,000 waiting"
    ratios = [cost["batch_64_ratio"] for cost in of["costs"].values()]
    bars = svg.bars(title, dict(zip([row[0] for row in rows], ratios, strict=True)), TIMES)
    return f"{table(head, rows)}\n\n{plot(folder, 'speed-backlog', title, bars)}"


def overviews(of: Figures, _: Path) -> str:
    names = {
        "stats": "`/stats`",
        "page": "first page of `/tasks`",
        "page_of_type": "`/tasks?task_type=…&status=pending`",
        "page_failed": "`/tasks?status=failed` (none)",
        "task": "`GET /task/<id>`",
    }
    rows = [[name, *(ms(of[f"{key}_{at}_ms"]) for at in ("first", "p50", "max"))] for key, name in names.items()]
    return table((f"at {of['waiting']:,} tasks", "first", "p50", "max"), rows)


def scaling(of: Figures, folder: Path) -> str:
    title = f"Speed-up by children ({of['tasks']} tasks of trial division, {of['cores']} cores)"
    curve = [(float(n), one["speedup"]) for n, one in of["children"].items()]
    rows = [[n, f"{one['seconds']:.2f} s", f"{one['speedup']:.2f} {TIMES}"] for n, one in of["children"].items()]
    drawn = svg.lines(title, {"speed-up": curve}, ("children", "times"))
    return f"{table(('children', 'wall', 'speed-up'), rows)}\n\n{plot(folder, 'speed-scaling', title, drawn)}"


def checkpoints(of: Figures, _: Path) -> str:
    keys = ("seconds", "lost_s", "again_s")
    rows = [[name, *(f"{of[f'{name}_{key}']:.1f} s" for key in keys)] for name in ("with", "without")]
    return table(("checkpoints", "all done after", "work done twice", "going on after"), rows)


def simple(sentence: str) -> Part:
    """One sentence with the figures in it."""
    return lambda of, _: sentence.format(**of)


def costs(of: Figures, _: Path) -> str:
    def shown(store: str, kind: str) -> str:
        return " + ".join(f"{us:,.0f}" for what, us in of[store][kind].items() if what != "wall_us")

    rows = [[kind.replace("_", " "), shown("sqlite", kind), shown("postgresql", kind)] for kind in of["sqlite"]]
    return table(("request, µs of a core", "SQLite", "PostgreSQL: dispatcher + database"), rows)


def simulated(of: Figures, _: Path) -> str:
    def times(row: Figures) -> list[str]:
        if "claim_p99_ms" not in row:
            return ["overloaded", ""]
        return [ms(row[f"{kind}_p99_ms"]) if f"{kind}_p99_ms" in row else "" for kind in ("heartbeat", "report")]

    rows = [
        [row["layout"], f"{row['workers']:,}", f"{row['tasks_per_s']:,.0f}", f"{row['dispatcher_busy']:.0%}",
         f"{row['database_busy']:.0%}" if row["database_busy"] else "", *times(row)]
        for row in of["rows"]
    ]  # fmt: skip
    head = ("layout", "workers", "tasks/s", "a dispatcher's core", "database's cores", "heartbeat p99", "report p99")
    return table(head, rows)


SPEED: list[tuple[str, str, Part]] = [
    ("compare", "Beside the peers", compare),
    ("throughput", "Throughput (one worker)", throughput),
    ("submits", "Single durable submits over HTTP", simple(
        "{acknowledged_per_s:,.0f} a second acknowledged over {connections} connections (p50 {p50_ms:.1f} ms, "
        "p99 {p99_ms:.1f} ms); all {acknowledged:,} were there after a kill -9 of the dispatcher.")),
    ("latency", "Submit to result, seen by the waiting client", latency),
    ("backlog", "Beside a backlog", backlog),
    ("overviews", "Overviews", overviews),
    ("idle workers", "Idle workers whose claims wait", simple(
        "{workers:,} of them cost the dispatcher {cpu_percent:.1f} % of a core and {pss_mb:.0f} MB (PSS); "
        "a new task starts in {start_p50_ms:.1f} ms (p50; p99 {start_p99_ms:.1f} ms).")),
    ("idle", "An idle system", simple(
        "Dispatcher and one worker with two children: {cpu_percent:.2f} % of a core and {pss_mb:.0f} MB (PSS) together "
        "({dispatcher_pss_mb:.0f} and {worker_pss_mb:.0f}), over {seconds:.0f} s.")),
    ("efficiency", "Compute", simple(
        "{tasks} tasks of 0.1 to 0.2 s of pure Python ({task_cpu_seconds:.3f} s on average) on {children} children: "
        "CPU time ÷ children ÷ wall = {median:.3f} ({least:.3f} to {most:.3f}).")),
    ("scaling", "More children", scaling),
    ("recovery", "A worker killed", simple(
        "{tasks} tasks of 20 ms on two workers of one child, one killed -9 half-way and another started: all done in "
        "{median_s:.1f} s (the slowest of {rounds} rounds {max_s:.1f} s); "
        "what it ran began again {again_median_s:.2f} s after the kill.")),
    ("checkpoints", "A quarter of the workers killed", checkpoints),
    ("disk", "On disk", simple("{bytes_per_task:.0f} bytes for each finished no-op task with its result.")),
    ("primes", "Primes below 10⁸ in one child", simple("{seconds:.3f} s inside the handler ({engine}).")),
]  # fmt: skip
SCALE: list[tuple[str, str, Part]] = [("costs", "", costs), ("simulate workers", "", simulated)]


def generated(parts: list[tuple[str, str, Part]], results: Path, folder: Path) -> dict[str, str]:
    """The text of each part whose figures there are."""
    texts = {}
    for name, title, part in parts:
        figures = told(name, results)
        if figures is not None:
            texts[name] = f"## {title}\n\n{part(figures, folder)}" if title else part(figures, folder)
    return texts


def fill(page: str, marker: str, text: str) -> str:
    """The page with what stands between two markers replaced."""
    begin, end = f"<!-- {marker} begin -->", f"<!-- {marker} end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.S)
    assert pattern.search(page), f"no {begin}"
    return pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", page)


def write(results: Path, folder: Path) -> None:
    """Both pages with the present figures, and the plots, into a folder."""
    speed = "\n\n".join(generated(SPEED, results, folder).values())
    (folder / "speed.md").write_text(fill((DOCS / "speed.md").read_text(), "figures", speed))
    page = (DOCS / "scale.md").read_text()
    for name, text in generated(SCALE, results, folder).items():
        page = fill(page, name, text)
    (folder / "scale.md").write_text(page)


if __name__ == "__main__":
    write(RESULTS, DOCS)
