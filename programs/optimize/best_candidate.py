"""The best candidate that an optimizer has rated so far, for when a usage limit stops the optimizer."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from programs.calls.usage import UsageLimiter, UsageLimitReached
from programs.optimize.compiling import copy_learned_state
from r2p_dspy import R2P


class BestCandidate(BaseCallback):
    """Keeps the program that scored best, of all that an optimizer rates with `dspy.Evaluate` on the whole of dev."""

    def __init__(self, dev: Sequence[dspy.Example]):
        self.program: dspy.Module | None = None
        self.scores: list[float] = []
        self._dev_ids = _ids(dev)
        self._under_evaluation: dict[str, dspy.Module] = {}

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        devset = inputs.get("devset") or instance.devset
        if _ids(devset) == self._dev_ids:
            self._under_evaluation[call_id] = inputs["program"]

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        program = self._under_evaluation.pop(call_id, None)
        if program is None or outputs is None:
            return
        if self.program is None or outputs.score > max(self.scores):
            self.program = program.deepcopy()  # an optimizer may change it later
        self.scores.append(float(outputs.score))


def compile_within_limits(
    compile_program: Callable[[], tuple[R2P, dict[str, Any]]],
    uncompiled: R2P,
    dev: Sequence[dspy.Example],
    limiter: UsageLimiter,
    optimizer: str,
) -> tuple[R2P, dict[str, Any]]:
    """Compile a program; if a usage limit is reached meanwhile, take the best candidate so far.

    Returns what `compile_program` returns; after a limit, the summary's `stopped` says which one it was.
    """
    best = BestCandidate(dev)
    with dspy.context(callbacks=[*dspy.settings.get("callbacks", []), best]):
        try:
            return compile_program()
        except UsageLimitReached as error:
            reason = str(error)
    limiter.drain()
    candidate = best.program
    improved, winner = False, uncompiled.deepcopy()
    if isinstance(candidate, R2P) and not _same_state(candidate, uncompiled):
        improved, winner = True, copy_learned_state(uncompiled, candidate)
    summary = {
        "optimizer": optimizer,
        "winner": "compiled" if improved else "uncompiled",
        "dev_scores": {"best so far": round(max(best.scores), 2)} if best.scores else {},
        "demos": len(winner.reason.demos),
        "stopped": f"{reason}; {len(best.scores)} candidates were rated before",
    }
    return winner, summary


def _ids(examples: Sequence[dspy.Example]) -> list[str]:
    return sorted(str(example.get("id", example)) for example in examples)


def _same_state(first: dspy.Module, second: dspy.Module) -> bool:
    return json.dumps(first.dump_state(), default=str) == json.dumps(second.dump_state(), default=str)
