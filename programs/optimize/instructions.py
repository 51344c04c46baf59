"""Optimizers that rewrite instructions, with a model that writes them; two of them choose demos as well."""

import contextlib
import io
from typing import Any

import dspy
from dspy.teleprompt import COPRO, GEPA, SIMBA, MIPROv2
from dspy.teleprompt.gepa import InstructionProposer
from gepa.utils import ScoreThresholdStopper

from programs.optimize.context import CANDIDATES, DEMOS, ENOUGH, CompileContext

_ROWS = 24  # examples on which COPRO rates an instruction
_BATCH = 16  # examples of a step of SIMBA
_PATIENCE = 4  # failures of the reflection model running


def mipro(job: CompileContext) -> dspy.Module:
    """Instructions and demos together, by Bayesian search; with instructions alone where nothing can be a demo."""
    demos = DEMOS if job.passing[0] else 0
    search = MIPROv2(
        metric=job.scored.optimizer_metric,
        prompt_model=job.reflection,
        task_model=dspy.settings.lm,
        max_bootstrapped_demos=demos,
        max_labeled_demos=0,
        auto=None,
        num_candidates=CANDIDATES,
        num_threads=job.threads,
        seed=job.seed,
    )
    return search.compile(
        job.program,
        trainset=job.passing[0] or [*job.train[:ENOUGH]],
        valset=[*job.dev],
        num_trials=2 * CANDIDATES,
        seed=job.seed,
        minibatch=False,  # its choice between minibatches fails once every pair was tried
        program_aware_proposer=False,  # would send this library's own source
        data_aware_proposer=False,  # would send whole histories; demos show the items as retrieved
    )


def gepa(job: CompileContext) -> dspy.Module:
    """Instructions rewritten after reflection on what the checks say of each stage."""
    proposer = _Proposer()
    search = GEPA(
        metric=job.scored.gepa_metric,
        auto="light",
        reflection_lm=job.reflection,
        instruction_proposer=proposer,
        num_threads=job.threads,
        add_format_failure_as_feedback=True,
        seed=job.seed,
        # Beside the budget: when nothing is left to win, and when nobody is left to reflect.
        gepa_kwargs={"stop_callbacks": [ScoreThresholdStopper(1.0), lambda state: proposer.gave_up]},
    )
    with dspy.context(r2p_reflecting=True):  # answers that cannot be read are reflected on too
        best = search.compile(job.program, trainset=[*job.train], valset=[*job.dev])
    if proposer.gave_up and not proposer.written:
        raise proposer.failures[0]
    if proposer.gave_up:
        job.progress(f"the reflection model fails ({proposer.failures[0]}); the best so far is kept")
    return best


class _Proposer(InstructionProposer):
    """GEPA's own, that knows when its model fails: GEPA would spend its whole budget without a word of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0
        self.failures: list[Exception] = []

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        try:
            made = super().__call__(*args, **kwargs)
        except Exception as error:
            self.failures.append(error)
            raise
        self.written, self.failures = self.written + 1, []
        return made

    @property
    def gave_up(self) -> bool:
        """Whether it failed several times running; GEPA tries a failed one once more."""
        return len(self.failures) >= _PATIENCE


def simba(job: CompileContext) -> dspy.Module:
    """Demos, and rules in words from runs that differ; without a model to write rules, demos alone."""
    search = SIMBA(
        metric=job.scored.gepa_metric,  # its words go to whoever writes the rules
        bsize=min(_BATCH, len(job.train)),
        num_candidates=CANDIDATES,
        max_steps=CANDIDATES,
        max_demos=DEMOS,
        prompt_model=job.reflection,
        demo_input_field_maxlen=0,  # a profile that is cut off is none any more
        num_threads=job.threads,
    )
    add_demo, add_rule = search.strategies

    def add_passing_demo(bucket: list[dict[str, Any]], system: dspy.Module, **known: Any) -> bool:
        best = bucket[0]  # of its samples; that may still be a wrong answer
        passes = best["prediction"] is not None and job.scored.accepts(best["example"], best["prediction"])
        return passes and add_demo(bucket, system, **known)

    search.strategies = [add_passing_demo, *([add_rule] if job.reflection is not None else [])]
    return search.compile(job.program, trainset=[*job.train], seed=job.seed)


def copro(job: CompileContext) -> dspy.Module:
    """Instructions by coordinate ascent."""
    search = COPRO(
        prompt_model=job.reflection,
        metric=job.scored.metric,
        breadth=CANDIDATES,
        depth=2,
        init_temperature=1.0,  # its 1.4 is more than some providers take
    )
    options = {"num_threads": job.threads, "display_progress": False}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its model's last prompt at every step
        return search.compile(job.program, trainset=[*job.train[:_ROWS]], eval_kwargs=options)
