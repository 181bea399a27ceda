"""Files that survive a power cut. Nothing is imported here but `os`: children start with it."""

import os


def write(path: str, data: bytes) -> None:
    """A new file under its name, on disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """What the folder holds by now, under which names, is on disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
