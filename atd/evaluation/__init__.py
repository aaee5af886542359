"""How a detector is judged: scores under attack, metrics, checks."""
