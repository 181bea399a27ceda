"""Takes as many MiB as `mib` says, then does as `then` says; `here`: not in the child but in a process of its own."""

import subprocess
import sys
import threading
import time
from typing import Any

GROW = """
import time
kept = []
for _ in range({mib}):
    kept.append(bytearray(b"x") * 2**20)
    time.sleep({pause})
time.sleep(1000)
"""


def execute(payload: dict[str, Any], context: Any) -> str:
    if payload.get("elsewhere"):
        grown = subprocess.Popen([sys.executable, "-c", GROW.format(mib=payload["mib"], pause=0.001)])
        return str(grown.wait())
    if payload.get("at_once"):
        return str(len(bytearray(payload["mib"] * 2**20)))
    kept = []
    for _ in range(payload["mib"]):
        kept.append(bytearray(b"x") * 2**20)
        time.sleep(0.001)
    if payload.get("then") == "wait":
        threading.Event().wait()
    return f"{len(kept)} MiB"
