"""DSPy's provider for in-process models: its optimizers train them with TRL."""
