"""The recipe of the pocket model: what it teaches is right, evenly mixed, and repeatable."""

import copy
import json
import random
import re
from collections import Counter
from pathlib import Path

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.pocket.auxiliary import auxiliary_task
from finetune.pocket.conversation import Turn, encode
from finetune.pocket.rows import FORMATS, Rows, signature
from finetune.pocket.worlds import ALL, FEW, TASKS, WORLDS
from programs.data.personas.world import ROLES, history
from r2p_dspy.checks import BUILT_IN, judge
from r2p_dspy.outcome import Inputs, Outcome
from r2p_dspy.profile import Profile
from r2p_dspy.prompting import tags
from r2p_dspy.prompting.parsing import read_thought
from r2p_dspy.template import TEMPLATE

WORDS = "apple river stone window garden letter morning silver yellow quiet running between famous general".split()
ADAPTER = dspy.ChatAdapter()


@pytest.mark.parametrize("world", WORLDS)
def test_lessons_pass_every_check(world):
    """Whatever items are shown: the right ones, random ones, another user's, or none."""
    rows, spec = Rows(WORDS, seed=3), WORLDS[world].task
    for _ in range(150):
        case = rows.case(world)
        shown = rows.shown(world, case, 6)
        lesson = WORLDS[world].teach(case, shown)
        stages = {stage.name: lesson[stage.name] for stage in TEMPLATE.leaves()}
        outcome = Outcome(fields={spec.answer: lesson["answer"]}, stages=stages, answers=(spec.answer,))
        unmet = [verdict for verdict in judge(BUILT_IN, Inputs(fields={}, items=shown), outcome) if not verdict.ok]
        assert not unmet, (str(shown), lesson)
        assert lesson["answer"] == case.answer


@pytest.mark.parametrize("world", WORLDS)
def test_misread_case_has_other_answer(world):
    rows = Rows(WORDS, seed=3)
    different = 0
    for _ in range(50):
        case = rows.case(world)
        shown = rows.shown(world, case, 6)
        different += WORLDS[world].teach(WORLDS[world].misread(rows.rng, case), shown)["answer"] != case.answer
    assert different > 25


@pytest.mark.parametrize("world", [*TASKS])
def test_lessons_use_items_alone(world):
    """What is taught of two personas with the same question and the same items is the same, whatever else they have."""
    rows, spec = Rows(WORDS, seed=3), WORLDS[world].task
    decided = 0
    for _ in range(40):
        case = rows.case(world)
        everything = Profile.of([item.model_dump() for item in history(spec, case)]).local()
        decided += "no item" not in WORLDS[world].teach(case, everything)["verification"].reason
    assert decided == 40, "the whole history always shows what decides"


@pytest.mark.parametrize("form", FORMATS)
def test_row_ends_in_its_format(form):
    rows = Rows(WORDS, seed=4)
    for _ in range(60):
        row = rows.row(forms=(form,), shares={**ALL, **FEW})
        text = row[-1].given + row[-1].content
        read = "think" if "<think>" in text else {"retry": "r2p", "continue": "r2p"}.get(form, form)
        assert any(_parses(name, read, text.rpartition("</think>")[2]) for name in TASKS), text
        if read == "think":
            parts = [(part.name, part.closed, bool(part.text)) for part in tags.sections(TEMPLATE, text)]
            assert parts == [(stage.name, True, True) for stage in TEMPLATE.leaves()], text
        assert row[-1].learn and row[-1].role == "assistant"
        assert [turn.role for turn in row[:2]] == ["system", "user"]


def _parses(task, form, text):
    try:
        return ADAPTER.parse(signature(task, form), text)
    except Exception:
        return None


def test_continuation_of_corrected_beginning():
    rows, noticed = Rows(WORDS, seed=5), 0
    for _ in range(60):
        last = rows.row(forms=("continue",), demos=False)[-1]
        noticed += "\n(Wait. " in last.given
        text = re.sub(r"\n\(Wait\. .*\)", "", last.given) + last.content
        if "<think>" in text:
            outcome = read_thought(TEMPLATE, text, {"answer": "x"})
        else:
            parsed = next(filter(None, (_parses(name, "r2p", text) for name in TASKS)))
            outcome = Outcome(stages={stage.name: parsed[stage.name] for stage in TEMPLATE.leaves()})
        assert outcome.error is None
        assert all(value is not None for value in outcome.stages.values()), text
    assert noticed > 50


def test_right_candidates_have_the_answer():
    rows = Rows(WORDS, seed=5)
    for _ in range(60):
        *_, question, answered = rows.row(forms=("synthesis",), demos=False)
        lines = [json.loads(line) for line in question.content.splitlines() if line.startswith('{"candidate"')]
        answer = answered.content.split("\n\n")[-2].splitlines()[-1]
        right = [candidate["candidate"] for candidate in lines if answer in candidate.values()]
        comparison = answered.content.splitlines()[1]
        assert comparison.startswith(
            f"candidates {' '.join(map(str, right))} hold, " if right else "no candidate holds, "
        )


def test_failed_attempts_are_not_learned():
    rows = Rows(WORDS, seed=5)
    for _ in range(60):
        row = rows.row(forms=("retry",), demos=False)
        failed, feedback = row[-3], row[-2]
        assert failed.role == "assistant" and not failed.learn
        assert feedback.role == "user" and "not accepted" in feedback.content
        assert not row[0].learn, "of the instructions nothing is learnt"


def test_formats_are_even():
    rows = Rows(WORDS, seed=6)
    forms = Counter(map(_form, (rows.row(demos=False) for _ in range(1400))))
    assert set(forms) == set(FORMATS)
    assert max(forms.values()) < 1.4 * min(forms.values()), forms


def _form(row):
    text = row[-1].content
    if row[-1].given:
        return "continue"
    if "<think>" in text:
        return "think"
    if len(row) > 3:
        return "retry"
    return "synthesis" if "comparison ##" in text else {2: "plain", 3: "cot", 7: "r2p"}[text.count("[[ ##")]


def test_personas_are_disjoint_from_commands():
    rows = Rows(WORDS, seed=7)
    assert {ROLES[rows.case(task).persona % len(ROLES)] for task in TASKS for _ in range(50)} == {"pocket"}


def test_copy_quotes_named_item():
    rng = random.Random(8)
    for _ in range(50):
        question, answered = auxiliary_task(rng, WORDS, ("copy",))
        shown = Profile.of(question.content)
        quotes = json.loads(answered.content)
        assert sorted(quote["item"] for quote in quotes) == [item.id for item in shown]
        assert all(quote["quote"] in shown.get(quote["item"]).text for quote in quotes)


def test_label_of_named_item():
    rng = random.Random(8)
    for _ in range(30):
        row = auxiliary_task(rng, WORDS, ("label",))
        shown = Profile.of(row[0].content.partition("\n\n")[0])
        for question, answered in zip(row[::2], row[1::2], strict=True):
            (cited,) = json.loads(answered.content)
            assert question.content.endswith(f"item {cited['items'][0]}")
            assert cited["label"] == shown.get(cited["items"][0]).label
        assert not any(turn.learn for turn in row[::2]), "labels of no user teach nothing"


@pytest.mark.parametrize("kind", ["tell", "find"])
def test_search_finds_item_of_words(kind):
    rng, words = random.Random(8), [f"{word}{number}" for word in WORDS for number in range(40)]
    for _ in range(30):
        row = auxiliary_task(rng, words, (kind,))
        shown = Profile.of(row[0].content.partition("\n\n")[0])
        for question, answered in zip(row[::2], row[1::2], strict=True):
            sought = question.content.rpartition("about ")[2]
            held = [item.id for item in shown if f" {sought} " in f" {item.text} "]
            assert held == [answered.content.removeprefix('[{"item": "')]


def test_same_seed_same_rows():
    assert [Rows(WORDS, 1).row() for _ in range(3)] == [Rows(WORDS, 1).row() for _ in range(3)]
    first, second = Rows(WORDS, 1), Rows(WORDS, 2)
    assert [first.row() for _ in range(3)] != [second.row() for _ in range(3)]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(Path(__file__).parents[3] / "r2p_dspy" / "pocket")


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_any_text_round_trips(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("task", TASKS)
def test_fixed_lines_take_few_tokens(tokenizer, task):
    from finetune.pocket.tokenizer import extend

    tokenizer = extend(copy.deepcopy(tokenizer))
    for form in FORMATS:
        inputs = dict.fromkeys(signature(task, form).input_fields, "") | {"profile": Profile()}
        system = ADAPTER.format(signature(task, form), [], inputs)[0]["content"]
        assert len(tokenizer(system)["input_ids"]) < 40 < len(system) / 10, form


def test_new_tasks_keep_token_numbers(tokenizer):
    from finetune.pocket.tokenizer import extend

    before, after = tokenizer.get_vocab(), extend(copy.deepcopy(tokenizer)).get_vocab()
    assert {token: after[token] for token in before} == before


ENGLISH = """The committee will meet again on Thursday to discuss the new budget, which several members have called
unrealistic. After a long debate about road repairs, the mayor promised to publish a full report before the end of the
month. Residents who wish to comment can write to the council or attend the public hearing in the town hall."""


def test_english_tokens_per_word(tokenizer):
    assert len(tokenizer(ENGLISH)["input_ids"]) <= 2 * len(ENGLISH.split())


REAL = Path(__file__).parents[3].parent / "shared" / "lamp_format"


@pytest.mark.skipif(not REAL.exists(), reason="the real data is not beside this checkout")
@pytest.mark.parametrize(("folder", "field"), [("blog18f_LaMP4like", "text"), ("acl_LaMP5like", "abstract")])
def test_article_tokens_per_word(tokenizer, folder, field):
    rows = json.loads((REAL / folder / "dev_questions.json").read_text())[:30]
    text = " ".join(item[field] for row in rows for item in row["profile"][:3])
    assert len(tokenizer(text)["input_ids"]) <= 2 * len(text.split())


def test_answers_and_labels_are_learned(tokenizer):
    shown = Profile.of([{"id": "1", "text": "a red house", "label": "calm"}, {"id": "2", "text": "the sea"}])
    row = [
        Turn("user", f"{shown}\n\nred", True),
        Turn("user", str(shown)),
        Turn("assistant", "wrong"),
        Turn("user", "no"),
        Turn("assistant", "right", True, given="so"),
    ]
    ids, learn, *_ = encode(tokenizer, row)
    learnt = tokenizer.decode([token for token, is_learnt in zip(ids, learn, strict=True) if is_learnt])
    assert learnt == f"calmright{tokenizer.eos_token}"


def test_item_of_every_token(tokenizer):
    shown = Profile.of([{"id": "1", "text": "a red house"}, {"id": "2", "text": "the blue sea", "label": "calm"}])
    row = [Turn("user", f"red sea\n\n{shown}\n\nred house"), Turn("assistant", "red", True)]
    ids, _, items = encode(tokenizer, row)
    tokens_of = {}
    for token, item in zip(ids, items, strict=True):
        tokens_of.setdefault(item, []).append(token)
    texts = {
        tokenizer.decode([item]) if item >= 0 else None: tokenizer.decode(held) for item, held in tokens_of.items()
    }
    assert texts["1"] == '", "text": "a red house'
    assert texts["2"] == '", "text": "the blue sea", "label": "calm'


def test_curriculum_formats_are_even():
    from finetune.pocket.batches import CURRICULA
    from finetune.pocket.train import Recipe

    shares = dict.fromkeys(FORMATS, 0.0)
    for curriculum, steps in zip(CURRICULA, Recipe().steps, strict=True):
        before = 0.0
        for stage in curriculum:
            for form in stage.forms:
                shares[form] += steps * (stage.until - before) * (1 - stage.auxiliary) / len(stage.forms)
            before = stage.until
        assert before == 1
    assert max(shares.values()) < 1.1 * min(shares.values())


@pytest.mark.slow
def test_resumed_training_equals_whole(tokenizer, tmp_path, monkeypatch):
    import torch

    import finetune.pocket.train as recipe

    monkeypatch.setattr(recipe, "evaluate", lambda *_, **__: {})
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    small = recipe.Recipe(width=32, layers=2, heads=1, inner=32, steps=(32, 32, 16), tokens=1024)
    for name in ("whole", "parts", "second"):
        (tmp_path / name).mkdir()
    saved = recipe._save

    def ship_the_first(path, own, model, steppers, phase, step):
        saved(path, own, model, steppers, phase, step)
        if (phase, step) == (0, 32):
            copy.deepcopy(model).to(torch.bfloat16).save_pretrained(tmp_path / "first")
            (tmp_path / "first" / "recipe.json").write_text('{"steps": [32]}')

    monkeypatch.setattr(recipe, "_save", ship_the_first)
    whole = recipe.train(small, tokenizer, WORDS, tmp_path / "whole", every=16)

    def stop(path, own, model, steppers, phase, step):
        saved(path, own, model, steppers, phase, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "_save", stop)
    for _ in range(5):  # within each phase, and at its end
        with pytest.raises(KeyboardInterrupt):
            recipe.train(small, tokenizer, WORDS, tmp_path / "parts", every=16)
    monkeypatch.setattr(recipe, "_save", saved)
    parts = recipe.train(small, tokenizer, WORDS, tmp_path / "parts", every=16)
    second = recipe.train(small, tokenizer, WORDS, tmp_path / "second", every=16, start=tmp_path / "first")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, parts.state_dict()[name]), name
        assert torch.equal(weight, second.state_dict()[name]), f"{name}, from the weights that the first phase ships"
    with pytest.raises(ValueError, match="another recipe"):
        recipe.train(recipe.Recipe(steps=(16, 16, 16)), tokenizer, WORDS, tmp_path / "parts")


@pytest.mark.parametrize("form", ["r2p", "think"])
def test_hasty_rows_answer_blindly(form):
    rows = Rows(WORDS, seed=5)
    for _ in range(20):
        text = rows.row(4, False, (form,), {"lamp2": 1.0}, hasty=1.0)[-1].content
        if "requirements" not in text:
            continue  # a retry
        assert text.index("requirements") < text.index("draft")
        assert "evidence" not in text and "preferences" not in text


def test_brief_template_stages():
    rows = Rows(WORDS, seed=5)
    for _ in range(20):
        question, *_, answered = rows.row(4, False, ("r2p",), brief=1.0)
        assert answered.content.startswith("[[ ## evidence ## ]]")
        assert "verification" not in question.content and "draft" not in answered.content
