"""How to train: the loop, its tasks (robust pre-training, ATD) and what they share."""
