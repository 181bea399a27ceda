"""How a command ends other than well."""

from common.exits import DONE, FAILED, INTERRUPTED, REFUSED, UNREACHABLE, USAGE

__all__ = ["DONE", "FAILED", "INTERRUPTED", "REFUSED", "UNREACHABLE", "USAGE", "Failed"]


class Failed(Exception):
    """One clear line for the operator, and the exit code: USAGE when another command line helps, else FAILED."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
