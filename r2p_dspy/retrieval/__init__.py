"""Retrievers, which choose the profile items that a prompt shows: BM25, dense, hybrid and simple ones."""
