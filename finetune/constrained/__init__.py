"""Rollouts of GRPO that are held to a grammar, and which of their tokens the loss counts."""
