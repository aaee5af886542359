"""What computes a score: one file a kind."""
