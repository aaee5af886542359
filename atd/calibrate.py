"""`python -m atd.calibrate DETECTOR --id IMAGES`; see `atd.commands.calibrate`."""

from atd.commands.calibrate import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
