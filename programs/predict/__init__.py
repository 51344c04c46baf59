"""Answering the rows of a file that have no gold answer."""
