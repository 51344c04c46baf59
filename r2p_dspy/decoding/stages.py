"""Watching the stages of an answer while it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias

from r2p_dspy.profile import Profile


class WrittenStage(NamedTuple):
    """A stage that a running answer has finished, and that its checks let pass."""

    name: str
    value: Any  # of the stage's type: the template decides
    items: Profile  # as the model saw them; `ref` is an item's own id
    answer: int  # which of the call's answers, from 1: a retry and each candidate is another one


Watcher: TypeAlias = Callable[[WrittenStage], object]
_watcher: ContextVar[tuple[Watcher, list[int]] | None] = ContextVar("r2p_stage_watcher", default=None)


@contextmanager
def watching_stages(watcher: Watcher) -> Iterator[None]:
    """Call `watcher` for each stage that an answer within this block finishes.

    Only engines that can be steered show their text while they write. `watcher` is called in the thread that reads the
    text, so it must be quick.
    """
    token = _watcher.set((watcher, []))
    try:
        yield
    finally:
        _watcher.reset(token)


def stage_watcher(items: Profile) -> Callable[[str, Any], None]:
    """What a new answer's monitor calls with the name and the value of each stage; it does nothing if none watches."""
    active = _watcher.get()
    if active is None:
        return lambda name, value: None
    watcher, begun = active
    begun.append(1)
    number = len(begun)

    def written(name: str, value: Any) -> None:
        watcher(WrittenStage(name, value, items, number))

    return written
