"""Every answer that the pocket model is taught has the form that the grammars ask for."""

import dspy
import pytest

from finetune.pocket.rows import Rows, lesson_fields, signature, written
from finetune.pocket.worlds import WORLDS
from r2p_dspy.decoding.grammar.building import constraint_for
from r2p_dspy.template import BRIEF, TEMPLATE
from tests.r2p_dspy.decoding.grammar.walks import accepts, allows


def lessons(count):
    rows = Rows(["lamp", "river", "stone", "glass"], seed=1)
    for name in WORLDS:
        for _ in range(count):
            case = rows.case(name)
            shown = rows.shown(name, case, 8)
            yield name, shown, WORLDS[name].teach(case, shown)


@pytest.mark.parametrize("template", [TEMPLATE, BRIEF], ids=["full", "brief"])
@pytest.mark.parametrize("form", ["r2p", "think"])
@pytest.mark.parametrize("count", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_every_target_of_the_pocket_recipe_is_accepted(form, template, count):
    for place, (name, shown, lesson) in enumerate(lessons(count)):
        task = WORLDS[name].task
        sig = signature(task.name, form, template)
        fields = lesson_fields(task, form, lesson, template)
        text = written(sig, form, lesson, fields, template)
        stages = {} if form == "think" else {stage.name: stage.name for stage in template.leaves()}
        constraint = constraint_for(
            sig.output_fields,
            shown.items,
            dspy.ChatAdapter(),
            template=template,
            stages=stages,
            answers=(task.answer,),
            thinks=form == "think",
            label_rule=("cited", "items")[place % 2],
        )
        first, whole = constraint.grammar(""), constraint.grammar("", whole=True)
        assert accepts(whole, text), f"{allows(whole, text)[-200:]}\n…\n{text}"
        begun = allows(first, text)
        assert not first.final and accepts(first, begun)
        rest = constraint.grammar(begun)
        assert rest.final and accepts(rest, text[len(begun) :]), f"{begun}\n…\n{allows(rest, text[len(begun) :])}"
