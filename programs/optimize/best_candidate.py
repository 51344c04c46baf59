"""The candidates that an optimizer rates on dev, and the best of them, which is kept when something stops it."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from programs.calls.patience import RunStopped
from programs.calls.usage import UsageLimiter, UsageLimitReached
from programs.optimize.safe_metric import FailureCounter
from r2p_dspy import R2P
from r2p_dspy.errors import RunError
from r2p_dspy.modules.profile_predict import is_whole

Scored = tuple[dspy.Example, float]  # an example, and a score in [0, 1]


@dataclass(frozen=True)
class _Rating:
    program: dspy.Module
    scores: list[Scored]


class RatedCandidates(BaseCallback):
    """The programs that are rated with `dspy.Evaluate` on the whole of dev, in their order.

    They are compared on the examples that all of them answered: where the server failed, a program has no score.
    """

    def __init__(self, dev: Sequence[dspy.Example]):
        self.failures = FailureCounter()  # a callback too
        self._dev, self._dev_ids = dev, _ids(dev)
        self._ratings: list[_Rating] = []
        self._under_evaluation: dict[str, dspy.Module] = {}

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        devset = inputs.get("devset") or instance.devset
        if _ids(devset) == self._dev_ids:
            self._under_evaluation[call_id] = inputs["program"]

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        program = self._under_evaluation.pop(call_id, None)
        if program is not None and outputs is not None:
            # A copy, because an optimizer may change the program later.
            self._ratings.append(_Rating(program.deepcopy(), scores_of(outputs.results)))

    @property
    def unanswered(self) -> int:
        """The number of dev examples that are left out of every score, because the server failed on them."""
        return sum(map(self.failures.failed_on, self._dev))

    @property
    def scores(self) -> list[float]:
        """The candidates' scores, 0 to 100."""
        return [self.score(rating.scores) for rating in self._ratings]

    def score(self, scores: Iterable[Scored]) -> float:
        """A program's score, 0 to 100, on the examples that can be compared; RunError if there is none."""
        common = [score for example, score in scores if not self.failures.failed_on(example)]
        if not common:
            raise RunError(
                "the model's server failed on every dev example, so nothing can be compared; go on with --resume"
            )
        return round(100 * sum(common) / len(common), 2)

    def best(self, first: int = 0) -> dspy.Module | None:
        """The first of the candidates that score best, from number `first` on; None if there is none."""
        ratings = self._ratings[first:]
        return max(ratings, key=lambda rating: self.score(rating.scores)).program if ratings else None


def scores_of(results: Iterable[tuple[dspy.Example, Any, Any]]) -> list[Scored]:
    """The scores among the results of `dspy.Evaluate`."""
    return [(example, float(score)) for example, _, score in results]


def copy_learned_state(program: R2P, optimized: dspy.Module) -> R2P:
    """A copy of a program with what an optimizer learned: instructions, whole demos, and a trained model.

    Everything else that optimizers leave on a program stays behind: candidates, logs, COPRO's field prefixes, demos
    that lack a stage, and repeated demos.
    """
    clean = program.deepcopy()
    learned = dict(optimized.named_predictors())
    for name, predictor in clean.named_predictors():
        predictor.signature = predictor.signature.with_instructions(learned[name].signature.instructions)
        predictor.lm = learned[name].lm or predictor.lm
        predictor.demos = []
        for demo in learned[name].demos:
            fields = {field: demo[field] for field in predictor.signature.fields if field in demo}
            whole = dspy.Example(augmented=True, **fields)
            if is_whole(fields, predictor.signature) and whole not in predictor.demos:
                predictor.demos.append(whole)
    return clean


def compile_within_limits(
    compile_program: Callable[[], tuple[R2P, dict[str, Any]]],
    uncompiled: R2P,
    dev: Sequence[dspy.Example],
    limiter: UsageLimiter,
    optimizer: str,
) -> tuple[R2P, dict[str, Any]]:
    """Compile a program; if a usage limit or too many failures end that, take the best candidate so far.

    Returns what `compile_program` returns; after a stop, the summary's `stopped` says why.
    """
    rated = RatedCandidates(dev)
    with dspy.context(callbacks=[*dspy.settings.get("callbacks", []), rated, rated.failures]):
        try:
            return compile_program()
        except (UsageLimitReached, RunStopped) as error:
            reason = str(error)
    limiter.drain()
    candidate = rated.best()
    improved, winner = False, uncompiled.deepcopy()
    if candidate is not None and not _same_state(candidate, uncompiled):
        improved, winner = True, copy_learned_state(uncompiled, candidate)
    scores = rated.scores
    summary = {
        "optimizer": optimizer,
        "winner": "compiled" if improved else "uncompiled",
        "dev_scores": {"best so far": round(max(scores), 2)} if scores else {},
        "demos": len(winner.reason.demos),
        "stopped": f"{reason}; {len(scores)} candidates were rated before",
    }
    return winner, summary


def _ids(examples: Sequence[dspy.Example]) -> list[str]:
    return sorted(str(example.get("id", example)) for example in examples)


def _same_state(first: dspy.Module, second: dspy.Module) -> bool:
    return json.dumps(first.dump_state(), default=str) == json.dumps(second.dump_state(), default=str)
