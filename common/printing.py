"""Texts of handlers, workers and errors on their way to a terminal, which they must not steer."""


def one_line(text: str) -> str:
    """A text as one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def printable(text: str) -> str:
    """A text that may have several lines."""
    return "\n".join(map(one_line, text.splitlines()))
