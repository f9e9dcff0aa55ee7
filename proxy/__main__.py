"""The `turnpike` command (floor 7): hands its arguments to `cli`, so that `python -m proxy` is the same."""

from __future__ import annotations

import sys

from proxy.cli.main import run


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
