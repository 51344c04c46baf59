"""Language models for DSPy: in-process (the pocket model, transformers) and served.

Importing this package does not import torch; using an in-process engine does.
"""

from typing import Any

from r2p_dspy.engines.connect import connect, context_window, count_tokens

__all__ = ["AsyncTransformersEngine", "TransformersEngine", "connect", "context_window", "count_tokens"]


def __getattr__(name: str) -> Any:  # Any: as every module's `__getattr__`
    if name == "TransformersEngine":
        from r2p_dspy.engines.local.engine import TransformersEngine

        return TransformersEngine
    if name == "AsyncTransformersEngine":
        from r2p_dspy.engines.local.async_engine import AsyncTransformersEngine

        return AsyncTransformersEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
