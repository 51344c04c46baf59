"""The JSON Schema of a constraint, for providers that take nothing else."""

from __future__ import annotations

from typing import Any

import dspy
import pydantic

from r2p_dspy.decoding.constraining import active_constraint
from r2p_dspy.decoding.notices import notice

_refusing = set[tuple[str, str]]()  # models and addresses


def held_to_schema(lm: dspy.LM, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of a call with the active constraint's schema in place of the one that DSPy made of the signature.

    None where DSPy sends no schema, where the constraint has none, or where the provider has refused one before.
    """
    sent, constraint = kwargs.get("response_format"), active_constraint()
    is_schema = isinstance(sent, type) and issubclass(sent, pydantic.BaseModel)
    schema = constraint.schema() if constraint is not None and is_schema and not is_refused(lm) else None
    if schema is None:
        return None
    format_ = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    return {**kwargs, "response_format": format_}


def is_refused(lm: dspy.LM) -> bool:
    """Whether the model's provider has refused such a schema."""
    return _key(lm) in _refusing


def refused(lm: dspy.LM, error: Exception) -> None:
    """The provider answered only without the constraint's schema; that is said once, and it gets none again."""
    if not is_refused(lm):
        _refusing.add(_key(lm))
        notice(f"{lm.model} refused the schema of an answer, so its answers have DSPy's own from now on: {error}")


def _key(lm: dspy.LM) -> tuple[str, str]:
    return str(lm.model), str(lm.kwargs.get("api_base"))
