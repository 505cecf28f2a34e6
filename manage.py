#!/usr/bin/env python
"""The command line of Noregret in a checkout: puts its folders on the path, and starts what
`noregret` starts where it is installed."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def main() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "platform")]
    from noregret.command_line import main

    main()


if __name__ == "__main__":
    main()
