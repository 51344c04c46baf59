"""Served models whose generation can be steered: vLLM and servers that continue an answer."""
