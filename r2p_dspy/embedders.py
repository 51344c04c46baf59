"""The former place of `r2p_dspy.retrieval.embedders`, for one version."""

import warnings

from r2p_dspy.retrieval.embedders import MeanPooling, Served, embedder

__all__ = ["MeanPooling", "Served", "embedder"]

warnings.warn("r2p_dspy.embedders has moved; import r2p_dspy.retrieval.embedders", DeprecationWarning, stacklevel=2)
