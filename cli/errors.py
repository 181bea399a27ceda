"""How a command ends other than well."""

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class Failed(Exception):
    """One clear line for the operator, and the exit code: USAGE when another command line helps, else FAILED."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
