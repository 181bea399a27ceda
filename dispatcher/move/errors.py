"""Why a move ends."""


class CannotMove(Exception):
    """The queue stays where it is; the message is one clear line for the operator, without secrets."""


class Stopped(CannotMove):
    """Whoever runs the move was asked to stop."""

    def __init__(self) -> None:
        super().__init__("stopped before the switch; the same command goes on from here")


class Away(CannotMove):
    """The target database did not answer for as long as we wait for it."""
