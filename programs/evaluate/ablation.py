"""The ablation: each part of R2P added in turn, beside what a DSPy user has today, on the same users and items.

What takes part is one dictionary, in the order of the table: plain prediction and chain of thought, the template alone,
with assertions, with intervention, with cross-referencing (all candidates, and adaptive), and `dspy.BestOfN`,
`dspy.Refine` and `dspy.MultiChainComparison`, the first two with R2P's own checks as reward.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any

import dspy
from dspy.predict.refine import OfferFeedback
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError

from programs.evaluate.baselines import WithItems, baselines
from programs.tasks.task import Task
from r2p_dspy import R2P
from r2p_dspy.modules.enforce import accepted

TRIES = 3  # of BestOfN, Refine and MultiChainComparison
CANDIDATES = 5
TEMPLATE, FULL = "r2p:template", "r2p:intervention"


def ablation(program: R2P, task: Task) -> dict[str, dspy.Module]:
    """The programs of the ablation, by their names in the report.

    Args:
        program: the R2P program (compiled or not) whose parts are taken away.
        task: whose baselines stand beside it.
    """
    # One candidate, whatever the program is set to, where none is being added.
    program = _variant(program, candidates=1, adaptive=False)
    alone = _variant(program, max_backtracks=0, max_interventions=0)
    return {
        **baselines(task, program.retriever),
        TEMPLATE: alone,
        "r2p:assertions": _variant(program, max_interventions=0),
        FULL: _variant(program),
        "r2p:candidates": _variant(program, candidates=CANDIDATES),
        "r2p:adaptive": _variant(program, candidates=CANDIDATES, adaptive=True),
        "dspy.BestOfN": dspy.BestOfN(alone, N=TRIES, reward_fn=checks_met, threshold=1.0),
        "dspy.Refine": dspy.Refine(alone, N=TRIES, reward_fn=checks_met, threshold=1.0),
        "dspy.MultiChain": WithItems(task, MultiChain(task.signature), program.retriever),
    }


def checks_met(arguments: Mapping[str, Any], prediction: dspy.Prediction) -> float:
    """The reward of `BestOfN` and `Refine`: the share of R2P's checks that hold, in [0, 1]."""
    verdicts = accepted(prediction.attempts).verdicts
    return sum(verdict.ok for verdict in verdicts) / len(verdicts)


class MultiChain(dspy.Module):
    """`dspy.MultiChainComparison` with the chains that it compares.

    Args:
        signature: the task's.
    """

    def __init__(self, signature: type[dspy.Signature]):
        super().__init__()
        self.chain = dspy.ChainOfThought(signature)
        self.compare = dspy.MultiChainComparison(signature, M=TRIES)

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        lm = dspy.settings.lm
        start = (lm.kwargs.get("rollout_id") or 0) * TRIES
        chains = []
        for number in range(TRIES):
            with dspy.context(lm=lm.copy(rollout_id=start + number, temperature=lm.kwargs.get("temperature") or 1.0)):
                chains.append(self.chain(**kwargs))
        return self.compare(completions=chains, **kwargs)


def not_runnable(name: str, program: dspy.Module, example: dspy.Example) -> str | None:
    """Why a model cannot run one of DSPy's modules at all, or None where it can.

    A model that cannot write the format which a module needs would get a score that says nothing of the module.

    Args:
        name: in the ablation.
        program: that is to be measured.
        example: to try it on; not one of those that are reported.
    """
    if name not in ("dspy.Refine", "dspy.MultiChain"):
        return None
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    try:
        with dspy.context(adapter=adapter):
            if name == "dspy.MultiChain":
                program(**example.inputs())
                return None
            names = OfferFeedback.input_fields
            dspy.Predict(OfferFeedback)(**{field: ["reason"] if field == "module_names" else "0" for field in names})
    except (AdapterParseError, ContextWindowExceededError) as error:
        what = "its advice prompt" if name == "dspy.Refine" else "its comparison"
        return f"the model cannot answer {what} ({type(error).__name__})"
    return None


def _variant(program: R2P, **changes: Any) -> R2P:
    """The same predictors with other settings."""
    variant = copy(program)
    variant.__dict__.update(changes)
    return variant
