#!/usr/bin/env python
"""The command line of Noregret. `--data-dir` is read before Django starts, for the settings depend on it."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def take_data_dir(argv: list[str]) -> list[str]:
    """Move `--data-dir DIR` from the arguments into NOREGRET_DATA_DIR, where env.py finds it.

    Settings are loaded before a command parses its arguments, and where the embedded servers listen follows from
    the data directory; a command therefore can't take this option by itself.
    """
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if argument == "--data-dir":
            value = next(arguments, None)
            if value is None:
                sys.exit("--data-dir needs a directory")
            os.environ["NOREGRET_DATA_DIR"] = value
        elif argument.startswith("--data-dir="):
            os.environ["NOREGRET_DATA_DIR"] = argument.partition("=")[2]
        else:
            rest.append(argument)
    return rest


def main() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "platform")]
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(take_data_dir(sys.argv))


if __name__ == "__main__":
    main()
