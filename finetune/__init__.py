"""Distill a compiled R2P program into a small open model: traces, SFT, GRPO, and a report on unseen users."""

import programs  # noqa: F401  (finds the old names of this folder's modules too)
