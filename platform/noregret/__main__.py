"""`python -m noregret`: the command line, also where no `manage.py` and no console script is at
hand."""

from noregret.command_line import main

if __name__ == "__main__":
    main()
