"""`python -m cli`."""

import sys


def main() -> int:
    """The command line's exit code."""
    try:
        from cli.main import main as command
    except KeyboardInterrupt:  # it takes a while to load, and nothing was done
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
