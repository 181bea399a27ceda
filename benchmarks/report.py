"""How a benchmark tells its figures, and where it finds the project."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def tell(name: str, figures: dict[str, object]) -> None:
    """One line of text and one of JSON."""
    words = [f"{key} {value:,.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()]
    print(f"{name}: {', '.join(words)}")
    print(json.dumps({"benchmark": name, **figures}))
