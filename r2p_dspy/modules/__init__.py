"""The DSPy modules that R2P is assembled from; each stands alone."""
