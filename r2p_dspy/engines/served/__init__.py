"""Served models: calls that end in time, and answers that are steered and held to a form."""
