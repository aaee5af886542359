"""Reports a person reads, drawn from results; nothing here runs a model."""
