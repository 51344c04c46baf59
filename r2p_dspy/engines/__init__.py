"""Language models for DSPy: in-process and served. Importing this does not import torch."""

from typing import Any

from r2p_dspy.engines.connect import connect, context_window, count_tokens
from r2p_dspy.engines.fetch import fetch_model

__all__ = ["AsyncTransformersEngine", "TransformersEngine", "connect", "context_window", "count_tokens", "fetch_model"]


def __getattr__(name: str) -> Any:  # Any: as every module's `__getattr__`
    if name == "TransformersEngine":
        from r2p_dspy.engines.local.engine import TransformersEngine

        return TransformersEngine
    if name == "AsyncTransformersEngine":
        from r2p_dspy.engines.local.async_engine import AsyncTransformersEngine

        return AsyncTransformersEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
