"""Holding a model's answers to a form, and noticing a server that does not."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass
from typing import Any

from r2p_dspy.decoding.constraining import Constraint
from r2p_dspy.decoding.notices import notice
from r2p_dspy.engines.served.servers.server import Form, Server

_TELLING = 20  # characters of an answer that show whether it follows a form


@dataclass(frozen=True)
class Held:
    """What one stretch of an answer is held to."""

    form: Form
    value: str | dict[str, Any]  # a grammar, or a JSON Schema
    options: dict[str, Any]  # how the server is told; JSON


class Holding:
    """What a server is counted on to hold the answers of one model to; threads may share it.

    A server that refuses a form, or whose first answer breaks it, is not counted on for it again; that is said once.
    One that has taken such a form before refuses this one alone.
    """

    def __init__(self, server: Server, model: str) -> None:
        self._server, self._model = server, model
        self._lost = set[Form]()
        self._taken = set[Form]()
        self._keeps = False  # whether an answer was seen that follows its form
        self._lock = threading.Lock()

    @property
    def form(self) -> Form | None:
        """The best form that the server takes, as far as is known."""
        return next((form for form in self._server.forms() if form not in self._lost), None)

    def hold(self, constraint: Constraint, text: str) -> Held | None:
        """What follows a text of an answer under a constraint; None where the server takes nothing for it."""
        form = self.form
        value: str | dict[str, Any] | None = None
        if form == "grammar":
            value = constraint.grammar(text, whole=True).source
        elif form == "schema" and not text:  # a schema describes whole answers
            value = constraint.schema()
        return None if form is None or value is None else Held(form, value, self._server.held_to(form, value))

    def taken(self, held: Held) -> None:
        """The server took the request."""
        self._taken.add(held.form)

    def refused(self, held: Held, error: Exception) -> None:
        """The server took the request only without the form."""
        why = f"refused the {held.form} of an answer ({error})"
        if held.form in self._taken:
            notice(f"the server at {self._server.url} {why}")
        else:
            self._lose({held.form}, why)

    def check(self, held: Held, text: str, *, ended: bool) -> None:
        """Look whether the beginning of a stretch follows its form, until one was seen that does."""
        if self._keeps or held.form in self._lost or not text or not (ended or len(text) >= _TELLING):
            return
        follows = _follows(held, text)
        if follows is False:
            self._lose({"grammar", "schema"}, f"ignored the {held.form} of an answer, which began {text[:40]!r}")
        self._keeps = follows is True

    def _lose(self, forms: set[Form], why: str) -> None:
        with self._lock:
            if forms <= self._lost:
                return
            self._lost |= forms
        notice(
            f"the server at {self._server.url} {why}; answers of {self._model} are not constrained by it from now on"
        )


def _follows(held: Held, text: str) -> bool | None:
    """Whether a text can be the beginning of what its form describes; None where that cannot be told."""
    if held.form == "schema":
        return text.lstrip().startswith("{")
    if importlib.util.find_spec("llguidance") is None:
        return None
    import llguidance

    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), str(held.value), log_level=0)
    if matcher.is_error():
        return None
    characters = list(text.encode("utf-8", "replace"))
    return bool(matcher.validate_tokens(characters) == len(characters))
