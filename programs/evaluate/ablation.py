"""The ablation: each part of R2P added in turn, beside DSPy's own modules, on the same users and items.

In the order of the table: plain prediction, chain of thought, the template alone, then with assertions, with
intervention, and with cross-referencing: all candidates, adaptive, and the model's own synthesis of all. Where the
model can be constrained, the template under a grammar follows, and intervention under it; no other row has a grammar.
Then `dspy.BestOfN` and `dspy.Refine`, with R2P's checks as their reward, and `dspy.MultiChainComparison`.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any, cast

import dspy
from dspy.predict.refine import OfferFeedback
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError

from programs.evaluate.baselines import WithRetrieval, baselines
from programs.tasks.task import Task
from r2p_dspy import R2P, Synthesize
from r2p_dspy.prediction import accepted, attempts_of

ATTEMPTS = 3  # of BestOfN, Refine and MultiChainComparison
CANDIDATES = 5
TEMPLATE, FULL, CONSTRAINED = "r2p:template", "r2p:intervention", "r2p:constraints"


def ablation(program: R2P, task: Task, constrained: bool = False) -> dict[str, dspy.Module]:
    """The programs of the ablation of an R2P program, by their names in a report.

    Args:
        program: whose predictors and settings they have.
        task: what they do.
        constrained: whether the model can be constrained.
    """
    # Only the variants with cross-referencing have more than one candidate, whatever the program's own setting.
    voting = "auto" if program.reconcile == "synthesis" else program.reconcile
    program = _variant(program, candidates=1, adaptive=False, constrain="off", reconcile=voting)
    template_only = _variant(program, max_backtracks=0, max_interventions=0)
    return {
        **baselines(task, program.retriever),
        TEMPLATE: template_only,
        "r2p:assertions": _variant(program, max_interventions=0),
        FULL: _variant(program),
        "r2p:candidates": _variant(program, candidates=CANDIDATES),
        "r2p:adaptive": _variant(program, candidates=CANDIDATES, adaptive=True),
        "r2p:synthesis": _synthesis(program, task),
        **({CONSTRAINED: _variant(template_only, constrain="on")} if constrained else {}),
        **({"r2p:constraints+intervention": _variant(program, constrain="on")} if constrained else {}),
        "dspy.BestOfN": dspy.BestOfN(template_only, N=ATTEMPTS, reward_fn=checks_met, threshold=1.0),
        "dspy.Refine": dspy.Refine(template_only, N=ATTEMPTS, reward_fn=checks_met, threshold=1.0),
        "dspy.MultiChain": WithRetrieval(task, MultiChain(task.signature), program.retriever),
    }


def checks_met(arguments: Mapping[str, Any], prediction: dspy.Prediction) -> float:
    """The reward of `BestOfN` and `Refine`: the share of R2P's checks that hold, in [0, 1]."""
    verdicts = accepted(attempts_of(prediction)).verdicts
    return sum(verdict.ok for verdict in verdicts) / len(verdicts)


class MultiChain(dspy.Module):
    """Samples several chains of thought and compares them with `dspy.MultiChainComparison`."""

    def __init__(self, signature: type[dspy.Signature]):
        super().__init__()
        self.chain = dspy.ChainOfThought(signature)
        self.compare = dspy.MultiChainComparison(signature, M=ATTEMPTS)

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        lm = dspy.settings.lm
        start = (lm.kwargs.get("rollout_id") or 0) * ATTEMPTS
        chains = []
        for number in range(ATTEMPTS):
            with dspy.context(lm=lm.copy(rollout_id=start + number, temperature=lm.kwargs.get("temperature") or 1.0)):
                chains.append(self.chain(**kwargs))
        return self.compare(completions=chains, **kwargs)


def not_runnable(name: str, program: dspy.Module, example: dspy.Example) -> str | None:
    """Why the model cannot run one of DSPy's modules at all, tried on an example that is not reported; None if it can.

    If it cannot write the format that a module needs, the module's score would say nothing about the module.
    """
    if name not in ("dspy.Refine", "dspy.MultiChain"):
        return None
    try:
        with dspy.context(adapter=dspy.settings.adapter or dspy.ChatAdapter()):  # as in `measure`
            if name == "dspy.MultiChain":
                program(**example.inputs())
                return None
            names = cast(Any, OfferFeedback).input_fields  # of DSPy's metaclass, which mypy does not see
            dspy.Predict(OfferFeedback)(**{field: ["reason"] if field == "module_names" else "0" for field in names})
    except (AdapterParseError, ContextWindowExceededError) as error:
        request = "its advice prompt" if name == "dspy.Refine" else "its comparison"
        return f"the model cannot answer {request} ({type(error).__name__})"
    return None


def _synthesis(program: R2P, task: Task) -> R2P:
    """All candidates, of which the model writes the answer: the paper's own way."""
    predictor = getattr(program, "synthesize", None) or Synthesize(task.signature)
    return _variant(program, candidates=CANDIDATES, reconcile="synthesis", synthesize=predictor)


def _variant(program: R2P, **changes: Any) -> R2P:
    """The same predictors with other settings."""
    variant = copy(program)
    variant.__dict__.update(changes)
    return variant
