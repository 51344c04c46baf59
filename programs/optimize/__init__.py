"""Compiling and tuning R2P programs with DSPy's optimizers."""
