"""The seam between an engine and a constraint: which text an answer may have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Constrain = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Grammar:
    """The text that may follow."""

    source: str  # a grammar in llguidance's dialect of Lark
    final: bool = True  # False where the answer goes on: ask for the next grammar as soon as this one is complete


class Constraint(Protocol):
    """The form that one call's answers must have. Constraints are immutable, and shared between threads."""

    def grammar(self, text: str, /, *, whole: bool = False) -> Grammar:
        """What may follow an answer's text so far, which is empty or ends where the value of a stage begins.

        Where the prompt has opened a thought already, as the chat templates of some models do, the text begins with
        `<think>` and a line break.

        A whole grammar reaches to the end of the answer. It is for engines that cannot ask again, and is wider: it
        does not know what the model will cite.
        """

    def schema(self) -> dict[str, Any] | None:  # Any: JSON
        """The JSON Schema of the answer, for servers that take nothing else; None where the answer is no JSON."""


_active: ContextVar[Constraint | None] = ContextVar("r2p_constraint", default=None)


@contextmanager
def constraining(constraint: Constraint | None) -> Iterator[None]:
    """Let engines that support it constrain the answers within; None turns it off. Other engines ignore this."""
    token = _active.set(constraint)
    try:
        yield
    finally:
        _active.reset(token)


def active_constraint() -> Constraint | None:
    """The constraint on the next answer; None where answers are free."""
    return _active.get()
