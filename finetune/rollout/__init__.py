"""Rollouts of GRPO that are held to a grammar or corrected, and which of their tokens the loss counts."""
