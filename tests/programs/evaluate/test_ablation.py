"""The ablation: what takes part, and what a model cannot take part in."""

import dspy
import pytest

from programs.data.dataset import personas
from programs.evaluate.ablation import ablation, checks_met, not_runnable
from programs.tasks import lamp2
from programs.tasks.program import r2p

TASK = lamp2.TASK
EXAMPLE = personas(TASK, seed=0, limit=1).train[0]


def says(**fields):
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


CHAIN = says(reasoning="hm", tag="comedy")


@pytest.mark.parametrize(
    ("name", "texts", "why"),
    [
        ("dspy.Refine", ["I would rather not."], "the model cannot answer its advice prompt (AdapterParseError)"),
        ("dspy.Refine", [says(discussion="none", advice='{"reason": "N/A"}')], None),
        ("dspy.MultiChain", [CHAIN, CHAIN, CHAIN, "what?"], "the model cannot answer its comparison"),
        ("dspy.MultiChain", [CHAIN, CHAIN, CHAIN, says(rationale="they agree", tag="comedy")], None),
        ("dspy.BestOfN", ["what?"], None),
    ],
)
def test_unrunnable_module_is_named_not_scored(scripted, name, texts, why):
    scripted(*texts)
    reason = not_runnable(name, ablation(r2p(TASK), TASK)[name], EXAMPLE)
    assert reason == why or (why and reason.startswith(why))


def test_variants_share_predictors():
    program = r2p(TASK)
    parts = ablation(program, TASK)
    variants = {name: variant for name, variant in parts.items() if name.startswith("r2p:")}
    assert all(
        variant.reason is program.reason and variant.retriever is program.retriever for variant in variants.values()
    )
    settings = [
        (variant.max_backtracks, variant.max_interventions, variant.candidates, variant.adaptive, variant.reconcile)
        for variant in variants.values()
    ]
    assert settings == [
        (0, 0, 1, False, "auto"),
        (2, 0, 1, False, "auto"),
        (2, 2, 1, False, "auto"),
        (2, 2, 5, False, "auto"),
        (2, 2, 5, True, "auto"),
        (2, 2, 5, False, "synthesis"),
    ]


def test_checks_met_is_share_of_met_checks(scripted):
    scripted("no field at all")
    with dspy.context(r2p_optimizing=True):
        answer = ablation(r2p(TASK), TASK)["r2p:template"](**EXAMPLE.inputs())
    assert 0 <= checks_met({}, answer) < 1
