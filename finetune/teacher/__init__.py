"""Asking the teacher of a run: its model, its calls, and where they are made."""
