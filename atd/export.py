"""`python -m atd.export DETECTOR`; see `atd.commands.export`."""

from atd.commands.export import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
