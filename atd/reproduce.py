"""`python -m atd.reproduce WHAT --scale SCALE`; see `atd.commands.reproduce`."""

from atd.commands.reproduce import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
