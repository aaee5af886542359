"""The commands: parse, build, run."""
