"""The best program so far: what an optimizer has rated, kept in case that it cannot go on."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from programs.calls.usage import BudgetReached, UsageLimiter
from programs.optimize.compiling import copy_learned_state
from r2p_dspy import R2P


class Best(BaseCallback):
    """Keeps the program that scored best on dev, of all that optimizers let `dspy.Evaluate` rate on all of it.

    Args:
        dev: the examples that count; an evaluation on others, or on some of them, is not compared.
    """

    def __init__(self, dev: Sequence[dspy.Example]):
        self.program: dspy.Module | None = None
        self.scores: list[float] = []
        self._dev, self._rated = _names(dev), dict[str, dspy.Module]()

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        devset = inputs.get("devset") or instance.devset
        if _names(devset) == self._dev:
            self._rated[call_id] = inputs["program"]

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        program = self._rated.pop(call_id, None)
        if program is None or outputs is None:
            return
        if self.program is None or outputs.score > max(self.scores):
            self.program = program.deepcopy()  # an optimizer may go on changing it
        self.scores.append(float(outputs.score))


def within_budget(
    compiling: Callable[[], tuple[R2P, dict[str, Any]]],
    uncompiled: R2P,
    dev: Sequence[dspy.Example],
    meter: UsageLimiter,
    optimizer: str,
) -> tuple[R2P, dict[str, Any]]:
    """Compile, and where the budget is reached take the best program so far.

    Args:
        compiling: compiles, as `compile_program`.
        uncompiled: what it begins with.
        dev: what candidates are chosen on.
        meter: of the run.
        optimizer: its name.

    Returns:
        What `compiling` returned; or else the best program, and a summary which says in `stopped` why it is no more.
    """
    best = Best(dev)
    with dspy.context(callbacks=[*dspy.settings.get("callbacks", []), best]):
        try:
            return compiling()
        except BudgetReached as reached:
            why = str(reached)
    meter.settle()
    found = best.program
    better = isinstance(found, R2P) and not _same(found, uncompiled)
    chosen = copy_learned_state(uncompiled, found) if better else uncompiled.deepcopy()
    rated = {"best so far": round(max(best.scores), 2)} if best.scores else {}
    summary = {
        "optimizer": optimizer,
        "winner": "compiled" if better else "uncompiled",
        "dev_scores": rated,
        "demos": len(chosen.reason.demos),
        "stopped": f"{why}; {len(best.scores)} candidates were rated by then",
    }
    return chosen, summary


def _names(examples: Sequence[dspy.Example]) -> list[str]:
    return sorted(str(example.get("id", example)) for example in examples)


def _same(one: dspy.Module, other: dspy.Module) -> bool:
    return json.dumps(one.dump_state(), default=str) == json.dumps(other.dump_state(), default=str)
