"""GEPA: rewrites instructions after reflection, and keeps candidates on a Pareto frontier of rows and objectives."""

from typing import Any, cast

import dspy
from dspy.teleprompt import GEPA
from dspy.teleprompt.gepa import InstructionProposer
from gepa.utils import ScoreThresholdStopper

from programs.calls.failures import failure_of
from programs.optimize.context import CompileContext
from r2p_dspy import R2P, Attempt, Details, R2PPrediction, Verdict

_MAX_FAILURES = 4  # of the reflection model in a row


def gepa(context: CompileContext) -> dspy.Module:
    """Rewrite instructions after reflection on what the checks say of each stage.

    The parts of the score are GEPA's objectives. `context.objectives` gets the best value of each, and its candidates.
    """
    proposer = _Proposer()
    search = GEPA(
        metric=cast(Any, context.score.gepa_metric),  # the protocol's sixth parameter is for `dspy.Flex` only
        auto="light",
        reflection_lm=context.reflection,
        instruction_proposer=proposer,
        num_threads=context.threads,
        add_format_failure_as_feedback=True,
        track_stats=True,
        seed=context.seed,
        gepa_kwargs={
            "frontier_type": context.frontier,
            # Stop also at the best possible score, and when the reflection model keeps failing.
            "stop_callbacks": [ScoreThresholdStopper(1.0), lambda state: proposer.gave_up],
        },
    )
    with dspy.context(r2p_reflecting=True):  # unreadable answers are reflected on too
        best = search.compile(EveryRow(context.program), trainset=[*context.train], valset=[*context.dev])
    if proposer.gave_up and not proposer.proposals:
        raise proposer.failures[0]
    if proposer.gave_up:
        context.progress(f"the reflection model fails ({proposer.failures[0]}); the best program so far is kept")
    result = best.detailed_results
    for objective, value in result.objective_pareto_front.items():
        candidates = sorted(result.per_objective_best_candidates[objective])
        context.objectives[objective] = {"best": round(value, 4), "candidates": candidates}
    return best


class EveryRow(dspy.Module):
    """A program whose failures are answers too: without outputs, with every check unmet.

    GEPA averages an objective over the rows that report it. A row that raises reports none, so a candidate that fails
    on hard rows would look better than it is. A failure of the model's server is raised: it is no answer.
    """

    def __init__(self, program: R2P) -> None:
        super().__init__()
        self.program = program

    def named_parameters(self) -> list[tuple[str, Any]]:
        """The program's own, under their own names: GEPA names its candidates' texts by them."""
        return cast("list[tuple[str, Any]]", self.program.named_parameters())

    def forward(self, **inputs: Any) -> R2PPrediction:
        try:
            return cast(R2PPrediction, self.program(**inputs))
        except Exception as error:  # `FailureCounter` has counted it
            failure = failure_of(error)
            if failure is not None and failure.scope != "row":  # it says nothing about the program
                raise
            unmet = [Verdict(check=check.name, kind=check.kind, ok=False) for check in self.program.enforce.checks]
            details = Details(attempts=[Attempt(verdicts=unmet, accepted=True)])
            return R2PPrediction(dict.fromkeys(self.program.reason.answers), details=details)


class _Proposer(InstructionProposer):
    """GEPA's proposer, which counts failures of its model: GEPA itself would spend its whole budget on them."""

    def __init__(self) -> None:
        super().__init__()
        self.proposals = 0
        self.failures: list[Exception] = []  # in a row

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        try:
            instructions = super().__call__(*args, **kwargs)
        except Exception as error:
            self.failures.append(error)
            raise
        self.proposals, self.failures = self.proposals + 1, []
        return instructions

    @property
    def gave_up(self) -> bool:
        """Whether it failed several times in a row. GEPA tries a failed proposal once more."""
        return len(self.failures) >= _MAX_FAILURES
