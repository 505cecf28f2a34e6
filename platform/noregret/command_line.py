"""The command line: `noregret` where it is installed, `manage.py` in a checkout, `python -m
noregret` anywhere.

Little is imported before it is known what is asked for: `up` listens for signals from its first
line, and never loads what serves.
"""

import signal
import sys

from noregret import env

INTERRUPTED = 130
"""The exit code of a shell's command that Ctrl-C ended."""


def main() -> None:
    try:
        arguments = env.take_data_dir(sys.argv)
        if arguments[1:2] == ["up"]:
            from noregret.embedded import up

            sys.exit(up.main(arguments[2:]))
        _run(arguments)
    except env.BadEnvironment as error:
        print(f"noregret: {error}", file=sys.stderr)  # noqa: T201 - the command line speaks by printing
        sys.exit(2)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(INTERRUPTED)


def _run(arguments: list[str]) -> None:
    env.name_settings()
    from django.core.management import execute_from_command_line

    import noregret.settings  # noqa: F401 - what can't be used is told before anything else is loaded

    execute_from_command_line(arguments)
