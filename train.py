"""Trains, evaluates and reports a robust OOD detector: `python train.py [key=value ...]`."""

from atd.commands.train import main

if __name__ == "__main__":
    main()
