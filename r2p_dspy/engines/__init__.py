"""Language models for DSPy: the embedded one, transformers in this process, and everything that DSPy reaches.

Importing this needs no torch; the in-process engine is imported when it is first used.
"""

from r2p_dspy.engines.connect import connect, context_window, count_tokens

__all__ = ["AsyncTransformersEngine", "TransformersEngine", "connect", "context_window", "count_tokens"]


def __getattr__(name: str):
    if name in ("AsyncTransformersEngine", "TransformersEngine"):
        from r2p_dspy.engines.local import engine as local

        return getattr(local, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
