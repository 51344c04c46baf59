"""A compiled program as a person reads it."""

import dspy
import pytest

from programs.ui.show import compare, demo_id, describe, load_artifact
from r2p_dspy import Artifact, ArtifactError, Profile, artifact_of, redacted, write_artifact
from r2p_dspy.artifact_file import Predictor
from tests.film import HISTORY, program
from tests.scripted import completion

EVIL = "so \x1b[2J\x1b]0;owned\x07 [bold red]it[/] :smile:\r\n\u202erained\ud83d"


def compiled(instructions="Choose well.", films=("one", "two"), **changed):
    """A program as a file holds it, with a demo for each film."""
    module = program()
    fields = dspy.ChatAdapter().parse(module.reason.signature, completion(**changed))
    module.reason.demos = [dspy.Example(film=film, profile=Profile.of(HISTORY).local(), **fields) for film in films]
    module.reason.signature = module.reason.signature.with_instructions(instructions)
    return artifact_of(module, task="film", notes={"model": "pocket", "test": {"accuracy": 0.9}}, settings={"k": 4})


def lines(described):
    return [line.text for line in described]


def test_describes_provenance_instructions_and_demos():
    shown = lines(describe(compiled()))
    for line in (
        "program for film",
        "  model: pocket",
        "  test: accuracy 0.9",
        "  settings: k 4",
        "  Demos hold texts from users' histories.",
        "reason: instructions",
        "  Choose well.",
        "  film",
        "  draft: The answer that follows from the preferences.",
        "  film: one",
        "  profile:",
        "    item: 1 · text: a lighthouse in the rain · label: romance",
        "    statement: lighthouses are sad · items: 1 · label: romance",
        "  verification: approved: true · reason: item 1",
        "  tag: romance",
    ):
        assert line in shown, line
    assert [line.partition(" (id ")[0] for line in shown if "demo " in line] == [
        "reason: demo 1 of 2",
        "reason: demo 2 of 2",
    ]


def test_describes_redacted_program():
    shown = lines(describe(redacted(compiled())))
    assert "reason: demos: 0 (2 left out)" in shown and any("not quite the program" in line for line in shown)
    assert not [line for line in shown if "lighthouse" in line]


def test_describes_uncompiled_program():
    shown = lines(describe(load_artifact("lamp2")))
    assert any("winner: the uncompiled program" in line for line in shown) and "reason: demos: 0" in shown


def test_texts_are_wrapped_and_truncated():
    artifact = compiled(films=["rain " * 300])
    assert max(map(len, lines(describe(artifact, width=50)))) <= 50
    short, whole = ("\n".join(lines(describe(artifact, 80, most))) for most in (400, None))
    assert "(1,106 more characters)" in short and short.count("rain ") < 90 < whole.count("rain")


@pytest.mark.parametrize("most", [None, 400])
def test_control_characters_are_neutralized(most):
    artifact = compiled(films=[EVIL])
    held = artifact.predictors["reason"]
    held.instructions = EVIL
    artifact.predictors[EVIL] = Predictor(
        instructions=EVIL, inputs={EVIL: EVIL}, outputs={EVIL: EVIL}, demos=[{EVIL: EVIL}, {EVIL: [{EVIL: EVIL}]}]
    )
    held.demos.append({"film": {EVIL: [EVIL]}, EVIL: None})
    artifact.notes, artifact.settings, artifact.versions = {EVIL: {EVIL: EVIL}}, {EVIL: [EVIL]}, {EVIL: EVIL}
    artifact.task = artifact.made = artifact.warning = EVIL
    artifact.template = [EVIL]
    for described in (
        describe(artifact, 200, most),
        compare(artifact, compiled(), 200, most),
        compare(compiled(), artifact),
    ):
        text = lines(described)
        assert all(line.isprintable() for line in text) and "\n".join(text).encode()
        assert any("[bold red]it[/] :smile:" in line for line in text), "and it is shown as it is"


class TestChanges:
    def test_instructions_by_sentences(self):
        shown = lines(compare(compiled("Choose well. Be brief."), compiled("Choose well. Be kind.\nStop.")))
        at = shown.index("reason: instructions")
        assert shown[at + 1 : at + 5] == ["  Choose well.", "- Be brief.", "+ Be kind.", "+ Stop."]

    def test_demos_by_id(self):
        before, after = compiled(films=["one", "two"]), compiled(films=["two", "three"])
        ids = [
            demo_id(artifact.predictors["reason"], demo)
            for artifact in (before, after)
            for demo in artifact.predictors["reason"].demos
        ]
        shown = lines(compare(before, after))
        assert "reason: demos 2 → 2, 1 of them in both" in shown
        assert f"- demo {ids[0]}" in shown and f"+ demo {ids[3]}" in shown
        assert ids[1] == ids[2] and not [line for line in shown if ids[1] in line]

    def test_changed_demo_shows_changed_fields(self):
        shown = lines(compare(compiled(films=["one"]), compiled(films=["one"], draft="fantasy")))
        assert [line for line in shown if line[:1] in "+-" and "demo" not in line] == [
            "-   draft: romance",
            "+   draft: fantasy",
        ]

    def test_facts_settings_and_scores(self):
        before, after = compiled(), compiled()
        after.notes = {"model": "pocket", "test": {"accuracy": 0.95}}
        after.settings = {"k": 8}
        shown = lines(compare(before, after))
        assert shown == [
            "program",
            "- test: accuracy 0.9",
            "+ test: accuracy 0.95",
            "- settings: k 4",
            "+ settings: k 8",
            "instructions, fields and demos are the same",
        ]

    def test_field_order_is_no_change(self):
        before, after = compiled(), compiled()
        held = after.predictors["reason"]
        held.inputs = dict(reversed(held.inputs.items()))
        assert lines(compare(before, after)) == ["instructions, fields and demos are the same"]
        held.inputs["film"] = "what happens"
        assert lines(compare(before, after)) == ["reason: fields", "- film", "+ film: what happens"]

    def test_new_predictor(self):
        before, after = compiled(), compiled()
        after.predictors["synthesize"] = Predictor(instructions="Compare.", inputs={}, outputs={"tag": ""})
        assert lines(compare(before, after)) == [
            "synthesize: instructions",
            "+ Compare.",
            "synthesize: fields",
            "+ tag",
        ]

    def test_redacted_demos(self):
        shown = lines(compare(compiled(), redacted(compiled())))
        assert "reason: demos 2 → 0 (2 left out), 0 of them in both" in shown


class TestFound:
    def test_loads_file_run_or_task(self, tmp_path):
        write_artifact(compiled(), tmp_path / "program.json")
        for name in (tmp_path, tmp_path / "program.json"):
            assert load_artifact(str(name)).task == "film"
        assert load_artifact("lamp3").task == "lamp3"

    def test_file_named_like_task_wins(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_artifact(compiled(), tmp_path / "lamp2")
        assert load_artifact("lamp2").task == "film"

    @pytest.mark.parametrize("name", ["nowhere.json", "lamp9", ".", "/dev/zero", "program.py"])
    def test_unreadable_program_is_refused(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "program.py").write_text("raise SystemExit('run')")
        with pytest.raises(ArtifactError):
            load_artifact(name)


def test_describes_empty_program():
    nothing = Artifact(task=None, template=[], predictors={})
    assert lines(describe(nothing)) == ["program for any task"]
