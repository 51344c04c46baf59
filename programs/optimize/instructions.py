"""Optimizers that rewrite instructions; `gepa.py` has one more. MIPROv2 and SIMBA choose demos as well."""

import contextlib
import io
from typing import Any, cast

import dspy
from dspy.teleprompt import COPRO, SIMBA, MIPROv2

from programs.optimize.context import CANDIDATES, DEMOS, ENOUGH, CompileContext

COPRO_EXAMPLES = 24  # on which COPRO rates an instruction
COPRO_DEPTH = 2  # rounds
SIMBA_BATCH = 16  # examples of a step


def mipro(context: CompileContext) -> dspy.Module:
    """Search instructions and demos together (Bayesian search); instructions alone if nothing can be a demo."""
    passing = context.passing
    search = MIPROv2(
        metric=context.score.optimizer_metric,
        prompt_model=context.reflection,
        task_model=dspy.settings.lm,
        max_bootstrapped_demos=DEMOS if passing.examples else 0,
        max_labeled_demos=0,
        auto=None,
        num_candidates=CANDIDATES,
        num_threads=context.threads,
        seed=context.seed,
    )
    return search.compile(
        context.program,
        teacher=passing.teacher,
        trainset=passing.examples or [*context.train[:ENOUGH]],
        valset=[*context.dev],
        num_trials=2 * CANDIDATES,
        seed=context.seed,
        minibatch=False,  # its choice between minibatches fails once every pair was tried
        program_aware_proposer=False,  # it would send this library's own source
        data_aware_proposer=False,  # it would send whole histories; demos show the items as retrieved
    )


def simba(context: CompileContext) -> dspy.Module:
    """Add demos, and rules in words from runs that differ; demos alone without a reflection model."""
    search = SIMBA(
        metric=cast(Any, context.score.gepa_metric),  # its feedback goes to the model that writes the rules
        bsize=min(SIMBA_BATCH, len(context.train)),
        num_candidates=CANDIDATES,
        max_steps=CANDIDATES,
        max_demos=DEMOS,
        prompt_model=context.reflection,
        demo_input_field_maxlen=0,  # a truncated profile is no profile
        num_threads=context.threads,
    )
    add_demo, add_rule = search.strategies

    def add_passing_demo(bucket: list[dict[str, Any]], system: dspy.Module, **options: Any) -> bool:
        best = bucket[0]  # the best of its samples, which may still be a wrong answer
        passes = best["prediction"] is not None and context.score.accepts(best["example"], best["prediction"])
        return passes and add_demo(bucket, system, **options)

    search.strategies = [add_passing_demo, *([add_rule] if context.reflection is not None else [])]
    return search.compile(context.program, trainset=[*context.train], seed=context.seed)


def copro(context: CompileContext) -> dspy.Module:
    """Rewrite instructions by coordinate ascent."""
    search = COPRO(
        prompt_model=context.reflection,
        metric=context.score.metric,
        breadth=CANDIDATES,
        depth=COPRO_DEPTH,
        init_temperature=1.0,  # COPRO's default, 1.4, is more than some providers accept
    )
    options = {"num_threads": context.threads, "display_progress": False}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its model's last prompt at every step
        return search.compile(context.program, trainset=[*context.train[:COPRO_EXAMPLES]], eval_kwargs=options)
