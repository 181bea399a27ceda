"""A helper module beside the handlers."""

WORD = "found"
