"""How much of what a task logs is kept, by worker and dispatcher alike. A child imports this module at its start."""

LINES, BYTES = 200, 64 * 1024


def last(lines: list[str]) -> list[str]:
    """As many of the last lines as a log may hold."""
    room, kept = BYTES, 0
    for line in reversed(lines[-LINES:]):
        room -= len(line.encode())
        if room < 0:
            break
        kept += 1
    return lines[len(lines) - kept :]
