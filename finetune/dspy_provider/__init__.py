"""DSPy's way to train in-process models: provider, jobs, GRPO steps."""
