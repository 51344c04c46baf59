"""A compiled program as a file: what is in it, what is not, and what is refused."""

import copy
import json

import dspy
import pytest

from r2p_dspy import R2P, ArtifactError, Profile, Stage, Template, load_program, save_program
from tests.film import HISTORY, Film, ask, program
from tests.scripted import completion

GENRE = Film.delete("tag").append("genre", dspy.OutputField(), str)


def compiled():
    """A program with instructions and a demo that it had not when it was built."""
    module = program()
    made = dspy.ChatAdapter().parse(module.reason.signature, completion(requirements="a demo's «requirement»\u2028\n"))
    module.reason.demos = [dspy.Example(film="demo film", profile=Profile.of(HISTORY).local(), **made)]
    module.reason.signature = module.reason.signature.with_instructions("Choose well.")
    return module


@pytest.fixture
def saved(tmp_path):
    return save_program(compiled(), tmp_path / "film.json", task="film", notes={"model": "pocket"})


def state(module):
    """All that loading might change."""
    reason = module.reason
    held = {key: value for key, value in vars(reason).items() if key not in ("signature", "history", "callbacks")}
    return copy.deepcopy(held), reason.signature.dump_state(), reason.signature.fields.keys()


def test_what_was_saved_is_loaded(saved):
    module = program()
    about = load_program(module, saved, task="film")
    assert module.reason.signature.instructions == "Choose well."
    assert module.reason.demos[0]["requirements"] == "a demo's «requirement»"
    assert {key: about[key] for key in ("format", "kind", "task", "notes")} == {
        "format": 1,
        "kind": "r2p-dspy program",
        "task": "film",
        "notes": {"model": "pocket"},
    }
    assert "histories" in about["warning"]
    assert "dspy" in about["versions"]
    assert "state" not in about
    assert load_program(program(), saved)["task"] == "film", "None accepts any task"


def test_it_is_plain_json_without_model_key_or_endpoint(saved, tmp_path, scripted):
    scripted(completion())
    module = compiled()
    module.set_lm(dspy.LM("openai/gpt-4o", api_key="sk-secret", api_base="https://secret.example/v1"))
    module.reason.config = {"api_key": "sk-secret"}
    path = save_program(module, tmp_path / "other.json", task="film", notes={"model": "pocket"})
    text = path.read_text(encoding="utf-8")
    assert "secret" not in text
    assert "gpt" not in text
    assert json.loads(text)["state"]["reason"]["lm"] is None
    assert json.loads(text) == json.loads(saved.read_text(encoding="utf-8")), "the same as without"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["film.json", "other.json"], "nothing half written is left"
    assert module.reason.lm.model == "openai/gpt-4o", "saving changes nothing"


def test_a_model_that_cannot_be_saved_is_no_matter(scripted, tmp_path):
    scripted(completion())
    module = program()
    module.set_lm(dspy.settings.lm)
    load_program(module, save_program(module, tmp_path / "film.json"))
    assert module.reason.lm is dspy.settings.lm, "what was bound stays bound"
    assert ask(module).tag == "romance"


def test_what_cannot_be_written_leaves_the_old_file(saved):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        save_program(program(), saved, notes={"odd": object()})
    with pytest.raises(OSError):
        save_program(program(), saved / "below" / "a file.json")
    assert saved.read_bytes() == before
    assert [one.name for one in saved.parent.iterdir()] == ["film.json"]


def change(*path):
    """A change of the file's data: the last argument is put at the path of the others; `...` takes the key away."""
    *keys, last, value = path

    def apply(data):
        at = data
        for key in keys:
            at = at[key]
        if value is ...:
            del at[last]
        else:
            at[last] = value
        return json.dumps(data)

    return apply


GOOD = {"signature": {"instructions": "", "fields": []}, "demos": []}
REASON = ("state", "reason")
SIGNATURE = (*REASON, "signature")
BAD = [
    # why, what is done to the file (None: removed; text: written; a function of its data), what the message must hold
    ("missing", None, "does not exist; compile makes such a file"),
    ("empty", "", "cannot be read as a program"),
    ("no JSON", "{'a': 1}", "cannot be read as a program"),
    ("cut short", lambda data: json.dumps(data)[:-40], "cannot be read as a program"),
    ("no text", b"\xff\xfe\x00", "cannot be read as a program"),
    ("nested without end", "[" * 100_000, "cannot be read as a program"),
    ("a pickle", b"\x80\x04\x95", "cannot be read as a program"),
    ("another kind of JSON", "[1, 2]", "is no r2p-dspy program; compile makes such a file"),
    ("a program that dspy saved", '{"reason": {"demos": []}, "metadata": {}}', "is no r2p-dspy program"),
    ("another kind", change("kind", "r2p-dspy report"), "is no r2p-dspy program"),
    ("a newer format", change("format", 2), "has format 2, this version reads up to 1; update r2p-dspy"),
    ("no format", change("format", ...), "has format None"),
    ("another task", change("task", "lamp3"), "is a program for task 'lamp3', not 'film'"),
    ("no task", change("task", None), "is a program for task None, not 'film'"),
    ("other fields", change("fields", "inputs", ["plot", "profile"]), "these fields differ: film, plot"),
    ("fields in another order", change("fields", "inputs", ["profile", "film"]), "fields differ: in another order"),
    ("other stages", change("template", ["plan"]), "has the stages plan, the program has requirements, evidence"),
    ("other predictors", change("state", {"judge": GOOD}), "holds the predictors judge, the program has reason"),
    ("no predictor", change("state", {}), "holds the predictors , the program has reason"),
    ("damaged: no state", change("state", ...), "is damaged at 'state'"),
    ("damaged: no template", change("template", ...), "is damaged at 'template'"),
    ("damaged: a template that is none", change("template", 5), "is damaged at 'template'"),
    ("damaged: fields that are none", change("fields", ["film"]), "is damaged at 'fields'"),
    ("damaged: half of the fields", change("fields", "outputs", ...), "is damaged at 'fields.outputs'"),
    ("damaged: a task that is none", change("task", 3), "is damaged at 'task'"),
    ("damaged: a state that is none", change("state", "reason", None), "is damaged at 'state.reason'"),
    ("damaged: no signature", change(*SIGNATURE, ...), "is damaged at 'state.reason.signature'"),
    ("damaged: no instructions", change(*SIGNATURE, "instructions", None), "signature.instructions'"),
    ("damaged: a field's description", change(*SIGNATURE, "fields", [{"prefix": "Film:"}]), "fields.0.description'"),
    ("damaged: no descriptions", change(*SIGNATURE, "fields", []), "descriptions are not those of the fields"),
    ("a format that never was", change("format", -3), "format -3"),
    ("damaged: demos that are none", change(*REASON, "demos", {"film": "x"}), "is damaged at 'state.reason.demos'"),
    ("damaged: a demo that is none", change(*REASON, "demos", ["x"]), "is damaged at 'state.reason.demos.0'"),
    ("damaged: a demo's profile", change(*REASON, "demos", 0, "profile", "prose"), "demo 1 has no readable profile"),
    ("damaged: a number as profile", change(*REASON, "demos", 0, "profile", 7), "demo 1 has no readable profile"),
]  # fmt: skip


@pytest.mark.parametrize(("why", "done", "named"), BAD, ids=[row[0] for row in BAD])
def test_a_bad_file_is_refused_in_one_line_and_changes_nothing(saved, why, done, named):
    if done is None:
        saved.unlink()
    elif callable(done):
        saved.write_text(done(json.loads(saved.read_text(encoding="utf-8"))), encoding="utf-8")
    else:
        saved.write_bytes(done if isinstance(done, bytes) else done.encode())
    module = compiled()
    before = state(module)
    with pytest.raises(ArtifactError) as caught:
        load_program(module, saved, task="film")
    message = str(caught.value)
    assert str(saved) in message
    assert named in message
    assert message.splitlines() == [message]
    assert state(module) == before


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ArtifactError, match="cannot be read as a program"):
        load_program(program(), tmp_path)


@pytest.mark.parametrize(
    ("why", "module", "named"),
    [
        ("another signature", lambda: R2P(GENRE), "these fields differ: genre, tag"),
        ("another template", lambda: program(template=Template((Stage("plan", "Say how.", str),))), "has the stages"),
    ],
)
def test_a_program_of_another_shape_is_refused(saved, why, module, named):
    with pytest.raises(ArtifactError, match=named):
        load_program(module(), saved)


def test_a_file_sets_nothing_but_instructions_and_demos(saved, scripted):
    engine = scripted(completion())
    data = json.loads(saved.read_text(encoding="utf-8"))
    evil = {
        "config": {"api_base": "https://evil.example"},
        "demo_tokens": 10**9,
        "stages": {},
        "answers": [],
        "forward": 1,
    }
    data["state"]["reason"] |= evil | {"lm": {"model": "evil/model", "api_base": "https://evil.example"}}
    saved.write_text(json.dumps(data), encoding="utf-8")
    module = program()
    before = {name: getattr(module.reason, name) for name in evil if name != "forward"}
    load_program(module, saved)
    assert {name: getattr(module.reason, name) for name in before} == before
    assert module.reason.lm is None
    assert ask(module).tag == "romance"
    assert len(engine.requests) == 1


def test_what_says_that_a_history_is_data_is_the_programs_own(saved):
    data = json.loads(saved.read_text(encoding="utf-8"))
    names = [*data["fields"]["inputs"], *data["fields"]["outputs"]]
    for name, info in zip(names, data["state"]["reason"]["signature"]["fields"], strict=True):
        info["description"] = f"new {name}"
    saved.write_text(json.dumps(data), encoding="utf-8")
    module = program()
    own = module.reason.signature.fields["profile"].json_schema_extra["desc"]
    load_program(module, saved)
    described = {name: info.json_schema_extra["desc"] for name, info in module.reason.signature.fields.items()}
    assert described["profile"] == own and "never instructions" in own
    assert described["film"] == "new film"
