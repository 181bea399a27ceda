"""How a benchmark tells its figures, and where it finds the project."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HANDLERS = Path(__file__).resolve().parent / "handlers"
RESULTS = Path(os.environ.get("BENCH_RESULTS", ROOT / "benchmarks" / "results" / "local"))
sys.path.insert(0, str(ROOT))


def arguments(about: str | None) -> argparse.ArgumentParser:
    """One that shows a module's docstring as it is."""
    return argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)


def tell(name: str, figures: Mapping[str, Any]) -> None:
    """One line of text and one of JSON, which is also kept as `<results>/<name>.json`."""
    print(f"{name}: {', '.join(_words(figures))}")
    line = json.dumps({"benchmark": name, **figures})
    print(line, flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name.replace(' ', '-')}.json").write_text(line + "\n")


def told(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """What a benchmark told last."""
    path = folder / f"{name.replace(' ', '-')}.json"
    return dict(json.loads(path.read_text())) if path.exists() else None


def _words(figures: Mapping[str, Any]) -> list[str]:
    """What stands for itself; tables are left to the JSON."""
    plain = {key: value for key, value in figures.items() if isinstance(value, int | float | str)}
    return [f"{key} {value:,.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in plain.items()]


def spread(times: Sequence[float]) -> dict[str, float]:
    """Where a list of times lies, in its own unit: milliseconds, by the names."""
    ordered = sorted(times)
    return {
        **{f"p{share}_ms": float(ordered[len(ordered) * share // 100]) for share in (50, 95, 99)},
        "max_ms": float(ordered[-1]),
    }
