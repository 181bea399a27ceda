"""What an operation raises when it must run once more."""


class Again(Exception):
    """Another dispatcher came first; the whole group is run once more and will see what that one did."""
