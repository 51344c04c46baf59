"""Answering rows on the machines of a Ray cluster, partition by partition."""
