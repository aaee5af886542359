"""Experiments: tables of documents, made by one command each."""
