"""What more processes bring, what they cost, and a plan for many GPUs."""
