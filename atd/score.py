"""`python -m atd.score DETECTOR IMAGES...`; see `atd.commands.score`."""

from atd.commands.score import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
