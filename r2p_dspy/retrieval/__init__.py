"""Which items of a profile a prompt shows: BM25, dense, hybrid and simple retrievers."""
