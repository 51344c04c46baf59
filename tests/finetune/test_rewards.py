"""The composite as rewards: the same verdicts as in a call, on whatever a model wrote."""

import json
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finetune.rewards import DEGENERATE, RewardError, Rewards, loops, text_of
from r2p_dspy import Assert, Inputs, Profile
from r2p_dspy.prompting.tags import render
from r2p_dspy.scoring.completions import CompletionReader, load_inputs
from r2p_dspy.scoring.composite import WEIGHTS
from r2p_dspy.template import TEMPLATE
from tests.film import FILM, HISTORY, ask, fields, program
from tests.finetune.tiny import TASK, student_program
from tests.scripted import completion

SHOWN = Profile.model_validate(HISTORY).local()
INPUTS = Inputs(fields={"film": FILM, "profile": Profile.model_validate(HISTORY)}, items=SHOWN)
THOUGHT = f"{render(TEMPLATE, fields())}\n</think>\n\n[[ ## tag ## ]]\nromance\n\n[[ ## completed ## ]]"
END = 4


def rewards(carrier="fields", **options):
    return Rewards({"films": (TASK, student_program(carrier))}, **options)


def scored(texts, *tasks, of=None, ids=None, task="films", gold="romance"):
    """What each reward function gives to texts, by its name."""
    count = len(texts)
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {"task": [task] * count, "inputs": [INPUTS.to_json()] * count, "gold": [json.dumps(gold)] * count}
    functions = (of or rewards()).functions(*(tasks or ("films",)), end_tokens={END})
    ids = ids or [[7, END]] * count
    return {
        function.__name__: function(prompts=None, completions=completions, completion_ids=ids, **columns)
        for function in functions
    }


def test_right_answer_gets_1_in_all_parts():
    assert scored([completion()]) == {name: [1.0] for name in ("composite", *WEIGHTS)}


def test_composite_is_first():
    assert next(iter(scored([completion()]))) == "composite"


@pytest.mark.parametrize(
    ("changes", "composite", "parts"),
    [
        ({"tag": "fantasy", "draft": "fantasy"}, 0.3, {"task": 0, "structure": 1, "evidence": 1, "consistency": 1}),
        ({"draft": "fantasy"}, 0.95, {"task": 1, "consistency": 0}),
        ({"evidence": '[{"item": "1", "quote": "a castle"}]'}, 0, {"task": 1, "structure": 1, "evidence": 0.75}),
        ({"evidence": '[{"item": "9", "quote": "a lighthouse"}]'}, 0, {"task": 1, "structure": 1, "evidence": 0.5}),
        ({"requirements": ""}, 0, {"task": 1, "structure": 0.5}),
        ({"verification": None}, 0, {"task": 0, "structure": 0, "evidence": 0}),
        ({"evidence": "none at all"}, 0, {"task": 0, "structure": 0}),
    ],
)
def test_flaw_costs_its_part_and_assert_costs_all(changes, composite, parts):
    values = scored([completion(**changes)])
    assert values["composite"] == [pytest.approx(composite)]
    assert {name: values[name][0] for name in parts} == pytest.approx(parts)


def test_reward_matches_call(scripted):
    for changes in ({}, {"tag": "fantasy"}, {"evidence": '[{"item": "2", "quote": "rain"}]'}):
        scripted(completion(**changes))
        from r2p_dspy import optimizing

        with optimizing():
            called = ask(program(max_backtracks=0, max_interventions=0))
        judged = CompletionReader(student_program().reason, student_program().checks)(INPUTS, completion(**changes))
        assert judged.attempts[0].verdicts == called.attempts[0].verdicts
        assert judged.tag == called.tag


def test_row_of_other_task_has_no_reward():
    assert {name: value for name, value in scored([completion()], task="books").items() if value != [None]} == {}


def test_each_of_several_tasks_is_logged():
    both = Rewards({name: (TASK, student_program()) for name in ("films", "books")})
    values = scored([completion()], "films", "books", of=both)
    assert values["films"] == [1.0] and values["books"] == [None] and values["composite"] == [1.0]


def test_cut_off_or_looping_answer_is_negative():
    circling = completion(requirements="a film and " * 6)
    values = scored([completion(), circling, completion()], ids=[[7, 8], [7, END], []])
    assert values["composite"] == [DEGENERATE, DEGENERATE, DEGENERATE]
    assert values["task"] == [1.0, 1.0, 1.0]  # the parts are logged as they are


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("a film about a dog that knows a dog", False),
        ("no no no no", False),
        ("no no no no no", True),
        ("it rains and then " * 5, True),
        ("it rains and then " * 4, False),
        ("=" * 30, True),
        (completion(), False),
        ("", False),
    ],
)
def test_loops(text, looping):
    assert loops(text) is looping


@pytest.mark.parametrize("text", [THOUGHT, f"<think>\n{THOUGHT}"])
def test_a_thought_that_the_template_opened_is_read_whole(text):
    """TRL hands over what was generated, and where the prompt ends in <think> that lacks the tag (TRL #6966)."""
    values = scored([text], of=rewards("thinking", opened=True))
    assert values["composite"] == [1.0] and values["structure"] == [1.0]


def test_a_thought_that_was_never_closed_cannot_be_read():
    assert scored([THOUGHT.partition("</think>")[0]], of=rewards("thinking", opened=True))["composite"] == [0.0]


def test_a_server_that_takes_thoughts_apart_loses_nothing():
    thought, _, answer = THOUGHT.partition("\n</think>\n\n")
    text = text_of([{"role": "assistant", "content": answer, "reasoning_content": thought}])
    assert scored([text], of=rewards("thinking"))["composite"] == [1.0]


@given(
    st.text()
    | st.lists(st.sampled_from([*completion().split("\n"), "[[ ## tag ## ]]", "[[[[", "</think>", "\ud800"])).map(
        "\n".join
    )
)
@example("[" * 5000)
@example("[[ ## evidence ## ]]\n" + "[" * 3000)
@example('{"a":' * 2000)
def test_no_text_makes_it_raise(text):
    for carrier in ("fields", "thinking"):
        value = scored([text], of=rewards(carrier))["composite"][0]
        assert DEGENERATE <= value <= 1


def test_a_check_that_fails_is_named_in_one_line():
    def broken(inputs, outcome):
        raise KeyError("missing")

    of = Rewards({"films": (TASK, program(checks=[Assert(broken)]))})
    with pytest.raises(RewardError, match=r"task 'films' failed .*'broken' failed with KeyError.*--resume") as raised:
        scored([completion()], of=of)
    assert "\n" not in str(raised.value)
    assert "in broken" in raised.value.traceback, "the user's own frame"
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.traceback) == (str(raised.value), raised.value.traceback)


def test_inputs_from_json():
    reason = student_program().reason
    again = load_inputs(reason, INPUTS.to_json())
    assert again.profile[1].label == "fantasy" and again.items.get("1").text == SHOWN[0].text


def test_evaluation_metrics():
    row = {"task": "films", "inputs": INPUTS.to_json(), "gold": '"romance"'}
    metrics = rewards().evaluate([row] * 4, [completion(), completion(tag="fantasy", draft="fantasy"), "what?", ""])
    assert metrics["score"] == pytest.approx(1.3 / 4) and metrics["task"] == 0.25
    assert metrics["compliance"] == 0.5 and metrics["evidence_validity"] == 0.5


def test_cut_off_and_looping_answers_are_counted():
    logged = {}
    composite = rewards().functions("films", end_tokens={END})[0]
    columns = {"task": ["films"] * 2, "inputs": [INPUTS.to_json()] * 2, "gold": ['"romance"'] * 2}
    composite(
        completions=["no " * 9, completion()], completion_ids=[[1], [END]], log_metric=logged.__setitem__, **columns
    )
    assert logged == {"answers/cut_off": 0.5, "answers/looping": 0.5}
