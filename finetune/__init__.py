"""Training: the recipe of the embedded pocket model."""

import programs  # noqa: F401  (finds the old names of this folder's modules too)
