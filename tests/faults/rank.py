"""What `torchrun` starts: the training command without pictures."""

from __future__ import annotations

from atd.commands.train import main
from tests.faults.plants import no_pictures

if __name__ == "__main__":
    no_pictures()
    main()
