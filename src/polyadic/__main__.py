"""``python -m polyadic``: the command line, for launchers that start a module."""

from polyadic.cli import main

if __name__ == "__main__":
    main()
