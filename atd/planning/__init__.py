"""What a run will do and how long it will take: stages, sizes and lengths, by a few timed steps."""
