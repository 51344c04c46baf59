"""Calls of language models: the call cache, usage limits, prices."""
