"""Judges a trained detector: `python evaluate.py DETECTOR [key=value ...]`."""

from atd.commands.evaluate import main

if __name__ == "__main__":
    main()
