"""What `atd.score` does with a stream of images: one file for each thing that happens to a row."""
