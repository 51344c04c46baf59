"""The artifacts that ship, and `load`, which uses them."""

import dspy
import pytest
from dspy.utils.exceptions import LMError

import programs
from programs import COMPILED, load
from programs.data.personas import MAKERS
from programs.data.personas.world import draw, example
from programs.tasks import TASKS
from r2p_dspy import ArtifactError, Profile, __version__, read_artifact, save_program
from tests.scripted import ScriptedEngine

SHIPPED = sorted(path.stem for path in COMPILED.glob("*.json"))


def test_every_task_that_has_data_has_one():
    assert sorted(MAKERS) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
class TestShipped:
    def test_it_is_of_this_version_and_of_personas(self, name):
        artifact = read_artifact(COMPILED / f"{name}.json")
        assert artifact.task == name and artifact.versions["r2p-dspy"] == __version__
        notes = artifact.notes
        assert notes["model"] == "pocket" and notes["data"]["source"] == "persona world (synthetic)"
        assert notes["winner"] in ("compiled", "uncompiled") and notes["test"]["examples"] > 0
        assert (COMPILED / f"{name}.json").stat().st_size < 50_000

    def test_its_demos_are_of_personas_that_programs_are_compiled_on(self, name):
        task = TASKS[name]
        known = {example(task, case)[task.question] for case in draw(MAKERS[name], "train", 60)}
        demos = read_artifact(COMPILED / f"{name}.json").predictors["reason"].demos
        assert {demo[task.question] for demo in demos} <= known

    def test_load_uses_it(self, name):
        held = read_artifact(COMPILED / f"{name}.json").predictors["reason"]
        program, bare = load(name), load(name, compiled=False)
        assert program.reason.signature.instructions == held.instructions
        assert len(program.reason.demos) == len(held.demos) and bare.reason.demos == []


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """An artifact of the second task as if it shipped."""
    monkeypatch.setattr(programs, "COMPILED", tmp_path)
    program = load("lamp2", compiled=False)
    program.reason.signature = program.reason.signature.with_instructions("Choose well.")
    return save_program(program, tmp_path / "lamp2.json", task="lamp2")


def told(program):
    return program.reason.signature.instructions


def test_what_ships_a_file_or_the_bare_program(shipped):
    assert told(load("lamp2")) == told(load("lamp2", shipped)) == "Choose well."
    assert told(load("lamp2", compiled=False)) != "Choose well."
    assert load("lamp3").reason.demos == [], "one that has none is uncompiled"


def test_a_path_for_an_uncompiled_program_is_refused(shipped):
    with pytest.raises(ValueError, match="leave out"):
        load("lamp2", shipped, compiled=False)


def test_a_file_of_another_task_is_refused(shipped):
    with pytest.raises(ArtifactError, match="'lamp2', not 'lamp3'"):
        load("lamp3", shipped)


def test_any_lm_is_bound(shipped):
    engine = ScriptedEngine(RuntimeError("asked"))
    lm = dspy.LM("scripted/x", engine=engine, cache=False, num_retries=0)
    assert load("lamp2", lm=lm).reason.lm is lm and load("lamp2").reason.lm is None
    with dspy.context(lm=None), pytest.raises(LMError, match="asked"):
        load("lamp2", lm=lm)(description="rain", profile=Profile())
