"""Steering a generation while it runs: the monitor, the carriers' marks, resumable segments, and replay."""
