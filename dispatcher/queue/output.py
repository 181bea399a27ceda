"""What a task shows while it runs: a partial result, and the last lines of its log. Written by heartbeats alone, and
only when a handler has said something."""

import hashlib
import json
from collections.abc import Sequence

from common.handlers.loglines import last
from dispatcher.model import Output, Progress
from dispatcher.store.base import Tx


def record(tx: Tx, updates: Sequence[Progress]) -> None:
    """Store what live leases brought."""
    said = {u.name.task_id: u for u in updates if u.partial is not None or u.log is not None}
    if not said:
        return
    stored = tx.outputs(sorted(said))
    tx.put_outputs([_merged(stored.get(task_id), said[task_id]) for task_id in sorted(said)])


def lines_of(output: Output | None) -> list[str]:
    """The lines of a stored log."""
    return json.loads(output.log) if output is not None and output.log else []


def cursor_of(output: Output | None) -> str:
    """Where a stored log ends: text that `new_lines` takes, and that betrays no lease."""
    return "" if output is None or output.log is None else f"{_writer(output)}-{output.next}"


def new_lines(output: Output | None, cursor: str) -> list[str]:
    """The lines of a stored log after a cursor; of another attempt's, or none of ours, all of the newest attempt's."""
    lines = lines_of(output)
    if output is None or not cursor:
        return lines
    writer, _, seen = cursor.partition("-")
    known = int(seen) if writer == _writer(output) and seen.isascii() and seen.isdigit() else 0
    fresh = max(0, output.next - known)
    return lines[-fresh:] if fresh else []


def _writer(output: Output) -> str:
    """A name for the attempt that wrote last."""
    return hashlib.sha256(str(output.lease).encode()).hexdigest()[:12]


def _merged(old: Output | None, update: Progress) -> Output:
    task_id, token = update.name
    partial = update.partial if update.partial is not None else old and old.partial
    if update.log is None:
        return (old or Output(task_id, None, None, None, 0))._replace(partial=partial)
    known = old.next if old is not None and old.lease == token else 0
    fresh = update.log.lines[max(0, known - update.log.start) :]  # a heartbeat without an answer is sent again
    text = json.dumps(last([*lines_of(old), *fresh]), ensure_ascii=False)
    return Output(task_id, partial, text, token, max(known, update.log.start + len(update.log.lines)))
