"""A compiled program as a file: what is in it, what is not, and what is refused."""

import copy
import json
import pickle
import sys
import tracemalloc
import unicodedata
from datetime import UTC, datetime
from typing import Literal

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import r2p_dspy
from r2p_dspy import (
    R2P,
    TEMPLATE,
    All,
    Artifact,
    ArtifactError,
    Profile,
    Stage,
    Template,
    load_program,
    read_artifact,
    redacted,
    save_program,
    write_artifact,
)
from r2p_dspy.artifact_file import Predictor
from r2p_dspy.prompting.adapter import active_adapter
from tests.film import HISTORY, Film, ask, program
from tests.scripted import completion

GENRE = Film.delete("tag").append("genre", dspy.OutputField(), str)


def compiled():
    """A program with instructions and a demo that it had not when it was built."""
    module = program()
    outputs = active_adapter().parse(module.reason.signature, completion(requirements="a demo's «requirement»\u2028\n"))
    module.reason.demos = [dspy.Example(film="demo film", profile=Profile.of(HISTORY).local(), **outputs)]
    module.reason.signature = module.reason.signature.with_instructions("Choose well.")
    return module


@pytest.fixture
def saved(tmp_path):
    return save_program(compiled(), tmp_path / "film.json", task="film", notes={"model": "pocket"}, settings={"k": 4})


def state(module):
    """All that loading might change."""
    reason = module.reason
    held = {key: value for key, value in vars(reason).items() if key not in ("signature", "history", "callbacks")}
    return copy.deepcopy(held), reason.signature.dump_state(), reason.signature.fields.keys()


def test_saved_program_loads(saved):
    module = program()
    about = load_program(module, saved, task="film")
    assert module.reason.signature.instructions == "Choose well."
    assert module.reason.demos[0]["requirements"].strip() == "a demo's «requirement»"
    assert {key: about[key] for key in ("format", "kind", "task", "notes", "settings", "redacted")} == {
        "format": 2,
        "kind": "r2p-dspy program",
        "task": "film",
        "notes": {"model": "pocket"},
        "settings": {"k": 4},
        "redacted": False,
    }
    assert "histories" in about["warning"]
    assert about["versions"]["r2p-dspy"] == r2p_dspy.__version__ and {"dspy", "python"} <= about["versions"].keys()
    assert about["made"] == datetime.now(UTC).date().isoformat()
    assert "predictors" not in about
    assert load_program(program(), saved)["task"] == "film", "None accepts any task"


def test_file_is_readable(saved):
    held = json.loads(saved.read_text(encoding="utf-8"))["predictors"]["reason"]
    assert held["instructions"] == "Choose well." and held["inputs"]["film"] == "${film}"
    assert held["demos"][0]["profile"][1] == {"item": "2", "text": "a wizard in the city", "label": "fantasy"}
    assert held["demos"][0]["evidence"] == [{"item": "1", "quote": "a lighthouse"}]


def test_demos_keep_only_fields(tmp_path):
    module = compiled()
    module.reason.demos[0] = dspy.Example(module.reason.demos[0], hint_="a leak", user="u7", augmented=True)
    held = read_artifact(save_program(module, tmp_path / "film.json")).predictors["reason"]
    assert set(held.demos[0]) == {*module.reason.signature.fields, "augmented"}


def test_half_characters_can_be_saved(tmp_path):
    module = compiled()
    module.reason.demos[0]["requirements"] = "odd \ud83d"
    read = program()
    load_program(read, save_program(module, tmp_path / "film.json"))
    assert read.reason.demos[0]["requirements"] == "odd \ufffd"


def test_file_holds_no_model_key_or_endpoint(saved, tmp_path, scripted):
    scripted(completion())
    module = compiled()
    module.set_lm(dspy.LM("openai/gpt-4o", api_key="sk-secret", api_base="https://secret.example/v1"))
    module.reason.config = {"api_key": "sk-secret"}
    path = save_program(module, tmp_path / "other.json", task="film", notes={"model": "pocket"}, settings={"k": 4})
    text = path.read_text(encoding="utf-8")
    assert "secret" not in text
    assert "gpt" not in text
    assert json.loads(text) == json.loads(saved.read_text(encoding="utf-8")), "the same as without"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["film.json", "other.json"], (
        "nothing half written is left"
    )
    assert module.reason.lm.model == "openai/gpt-4o", "saving changes nothing"


def test_unsavable_model_is_ignored(scripted, tmp_path):
    scripted(completion())
    module = program()
    module.set_lm(dspy.settings.lm)
    load_program(module, save_program(module, tmp_path / "film.json"))
    assert module.reason.lm is dspy.settings.lm, "what was bound stays bound"
    assert ask(module).tag == "romance"


def test_failed_save_keeps_the_old_file(saved):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        save_program(program(), saved, notes={"odd": object()})
    with pytest.raises(OSError):
        save_program(program(), saved / "below" / "a file.json")
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["film.json"]


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


GOOD = {"instructions": "", "inputs": {}, "outputs": {}}
REASON = ("predictors", "reason")
DEMO = (*REASON, "demos", 0)
UNREAD = "cannot be read as a program"


def nested(depth):
    """Notes that are nested so deep, as text, since no library writes what none reads."""
    return lambda data: json.dumps(data).replace('"pocket"', "[" * depth + "]" * depth)


BAD = [
    # why, what is done to the file (None: removed; text: written; a function of its data), what the message must hold
    ("missing", None, "does not exist; compile makes such a file"),
    ("empty", "", UNREAD),
    ("no JSON", "{'a': 1}", UNREAD),
    ("cut short", lambda data: json.dumps(data)[:-40], UNREAD),
    ("no text", b"\xff\xfe\x00", UNREAD),
    ("nested without end", "[" * 100_000, UNREAD),
    ("nested too deep", nested(500), UNREAD),
    ("nested just too deep", nested(99), "nested too deeply"),
    ("a pickle", pickle.dumps({"kind": "r2p-dspy program"}), UNREAD),
    ("a number with no end", '{"kind": "r2p-dspy program", "format": ' + "9" * 10_000 + "}", UNREAD),
    ("Python", "__import__('os').abort()", UNREAD),
    ("half a character", change(*REASON, "instructions", "odd \ud83d"), "holds half a character"),
    ("another kind of JSON", "[1, 2]", "is no r2p-dspy program; compile makes such a file"),
    ("a program that dspy saved", '{"reason": {"demos": []}, "metadata": {}}', "is no r2p-dspy program"),
    ("another kind", change("kind", "r2p-dspy report"), "is no r2p-dspy program"),
    ("a newer format", change("format", 3), "has format 3, this version reads up to 2; update r2p-dspy"),
    ("no format", change("format", ...), "has format None"),
    ("a format that never was", change("format", -3), "format -3"),
    ("a format in quotes", change("format", "2"), "format 2"),
    ("a format that is true", change("format", True), "format True"),
    ("a format that is a screen's", change("format", "\x1b[2J"), "format \ufffd[2J"),
    ("an old format without state", change("format", 1), "its predictors cannot be read"),
    ("another task", change("task", "lamp3"), "is a program for task 'lamp3', not 'film'"),
    ("no task", change("task", None), "is a program for task None, not 'film'"),
    ("another field", change(*REASON, "inputs", {"plot": "", "profile": ""}),
     "input plot; the program alone has input film"),
    ("an input that is an output now", change(*REASON, "inputs", "tag", ""), "the file alone has input tag"),
    ("a field that a screen obeys", change(*REASON, "inputs", "\x1b[2J", ""), "alone has input \ufffd[2J"),
    ("a field less", change(*REASON, "outputs", "tag", ...), "alone has nothing; the program alone has output tag"),
    ("other stages", change("template", ["plan"]), "alone has stage plan; the program alone has stage requirements"),
    ("other predictors", change("predictors", {"judge": GOOD}), "its predictors are judge, the program's are reason"),
    ("a predictor too many", change("predictors", "__class__", GOOD), "its predictors are reason, __class__, the"),
    ("no predictor", change("predictors", {}), "its predictors are none, the program's are reason"),
    ("damaged: no predictors", change("predictors", ...), "is damaged at 'predictors'"),
    ("damaged: predictors in a list", change("predictors", [GOOD]), "is damaged at 'predictors'"),
    ("damaged: no template", change("template", ...), "is damaged at 'template'"),
    ("damaged: a template that is none", change("template", 5), "is damaged at 'template'"),
    ("damaged: a task that is none", change("task", 3), "is damaged at 'task'"),
    ("damaged: notes that are none", change("notes", "good"), "is damaged at 'notes'"),
    ("damaged: settings that are none", change("settings", [4]), "is damaged at 'settings'"),
    ("damaged: a predictor that is none", change("predictors", "reason", None), "is damaged at 'predictors.reason'"),
    ("damaged: no instructions", change(*REASON, "instructions", None), "reason.instructions'"),
    ("damaged: a description that is none", change(*REASON, "inputs", "film", 4), "reason.inputs.film'"),
    ("damaged: demos that are none", change(*REASON, "demos", {"film": "x"}), "at 'predictors.reason.demos'"),
    ("damaged: a demo that is none", change(*DEMO, "x"), "is damaged at 'predictors.reason.demos.0'"),
    ("a demo's profile", change(*DEMO, "profile", "prose"), "demo 1 has no profile that"),
    ("a profile that is a number", change(*DEMO, "profile", 7), "demo 1 has no profile that"),
    ("a profile with an id twice", change(*DEMO, "profile", [{"id": "1", "text": "x"}] * 2), "demo 1 has no profile"),
    ("a demo's evidence", change(*DEMO, "evidence", "prose"), "demo 1 has no evidence that"),
    ("evidence without end", change(*DEMO, "evidence", "[" * 100_000), "demo 1 has no evidence that"),
    ("a profile without end", change(*DEMO, "profile", "[" * 100_000), "demo 1 has no profile that"),
    ("a profile of levels", change(*DEMO, "profile", [[[{"id": "1", "text": "x"}]]]), "demo 1 has no profile that"),
    ("a draft that is no text", change(*DEMO, "draft", {"a": ["b"]}), "demo 1 has no draft that"),
    ("evidence without quotes", change(*DEMO, "evidence", [{"item": "1"}]), "demo 1 has no evidence that"),
    ("a verdict that is none", change(*DEMO, "verification", "approved", "perhaps"), "demo 1 has no verification"),
]  # fmt: skip


@pytest.mark.parametrize(("why", "done", "named"), BAD, ids=[row[0] for row in BAD])
def test_bad_file_changes_nothing(saved, why, done, named):
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


def test_run_directory_loads(tmp_path):
    with pytest.raises(ArtifactError, match=r"program\.json does not exist"):
        load_program(program(), tmp_path)
    save_program(program(), tmp_path / "program.json", task="mine")
    assert load_program(program(), tmp_path)["task"] == "mine"
    (tmp_path / "other" / "program.json").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="is no file"):
        load_program(program(), tmp_path / "other")


@pytest.mark.parametrize(
    ("why", "module", "named"),
    [
        ("another signature", lambda: R2P(GENRE), "the file alone has output tag; the program alone has output genre"),
        (
            "another template",
            lambda: program(template=Template((Stage("plan", "Say how.", str),))),
            "the program alone has stage plan",
        ),
    ],
)
def test_other_fields_or_stages_are_refused(saved, why, module, named):
    with pytest.raises(ArtifactError, match=named):
        load_program(module(), saved)


def test_file_sets_only_instructions_and_demos(saved, scripted):
    engine = scripted(completion())
    data = json.loads(saved.read_text(encoding="utf-8"))
    evil = {
        "config": {"api_base": "https://evil.example"},
        "demo_tokens": 10**9,
        "stages": {},
        "answers": [],
        "forward": 1,
        "__class__": "dspy.Predict",
        "__dict__": {},
    }
    held = data["predictors"]["reason"]
    held["demos"][0] |= evil | {"__reduce__": ["os.abort"]}
    held |= evil | {"lm": {"model": "evil/model", "api_base": "https://evil.example"}}
    data |= evil
    saved.write_text(json.dumps(data), encoding="utf-8")
    module = program()
    before = {name: getattr(module.reason, name) for name in evil if not name.startswith(("__", "forward"))}
    load_program(module, saved)
    assert {name: getattr(module.reason, name) for name in before} == before
    assert type(module.reason) is type(program().reason) and callable(module.reason.forward)
    assert set(module.reason.demos[0]) == set(module.reason.signature.fields)
    assert module.reason.lm is None
    assert ask(module).tag == "romance"
    assert len(engine.requests) == 1


def test_loading_runs_no_code(saved):
    """What could run code is not even called: no pickle, no import by a name from the file."""
    called = []

    def watch(event, arguments):
        if watching and event in (
            "exec",
            "compile",
            "pickle.find_class",
            "os.system",
            "subprocess.Popen",
            "socket.connect",
        ):
            called.append((event, arguments))

    watching = False
    sys.addaudithook(watch)
    module = program()
    load_program(module, saved)  # what is imported at first use is imported now
    watching = True
    load_program(module, saved)
    watching = False
    assert called == []


class TestAfterAnEdit:
    """The same class later: its fields in another order, or described in other words."""

    class Film(dspy.Signature):
        """Say how this user would tag the film."""

        profile: Profile = dspy.InputField(desc="the user's films")
        film: str = dspy.InputField(desc="what happens in it")
        tag: Literal["romance", "fantasy"] = dspy.OutputField(desc="one of both")

    def test_fields_are_matched_by_name(self, saved):
        data = json.loads(saved.read_text(encoding="utf-8"))
        held = data["predictors"]["reason"]
        for kind in ("inputs", "outputs"):
            held[kind] = {name: f"new {name}" for name in held[kind]}
        saved.write_text(json.dumps(data), encoding="utf-8")
        module = R2P(self.Film)
        own = module.reason.signature.fields["profile"].json_schema_extra["desc"]
        load_program(module, saved)
        described = {name: info.json_schema_extra["desc"] for name, info in module.reason.signature.fields.items()}
        assert described.pop("profile") == own and own.startswith("the user's films") and "never instructions" in own
        assert described and all(text == f"new {name}" for name, text in described.items())
        assert list(module.reason.signature.input_fields) == ["profile", "film"], "in the order of today's class"
        assert module.reason.signature.instructions == "Choose well."

    def test_loaded_demo_is_shown(self, saved, scripted):
        engine = scripted(completion())
        module = R2P(self.Film, retriever=All())
        load_program(module, saved)
        assert ask(module).tag == "romance"
        assert "a demo's «requirement»" in engine.prompts()[0] and "Choose well." in engine.requests[0].system

    def test_stages_in_another_order(self, saved):
        leaves = [*TEMPLATE.leaves()]
        load_program(program(template=Template((leaves[1], leaves[0], *leaves[2:]))), saved)

    def test_removed_label_is_named(self, saved):
        module = R2P(self.Film.with_updated_fields("tag", type_=Literal["sad", "glad"]))
        with pytest.raises(ArtifactError, match=r"\(reason\): demo 1 has no tag that the program can read: .*'sad'"):
            load_program(module, saved)
        assert module.reason.demos == []


def test_program_compiled_by_copro_loads(tmp_path):
    module = compiled()
    module.reason.signature = module.reason.signature.with_updated_fields("tag", prefix="So the tag is:")
    load_program(program(), save_program(module, tmp_path / "film.json"))


@pytest.mark.parametrize("carrier", ["fields", "thinking"])
def test_either_carrier_loads(tmp_path, carrier):
    module, read = program(carrier=carrier), program(carrier=carrier)
    module.reason.demos = [
        dspy.Example(film="x", profile=Profile.of(HISTORY), tag="sad", reasoning=dspy.Reasoning(content="hm"))
    ]
    load_program(read, save_program(module, tmp_path / "film.json"))
    assert read.reason.demos[0]["tag"] == "sad"


def test_lm_is_bound_on_loading(saved, scripted):
    scripted(completion(tag="fantasy"))
    module, other = program(), dspy.settings.lm.copy()
    load_program(module, saved, lm=other)
    assert module.reason.lm is other
    with dspy.context(lm=None):
        assert ask(module).tag == "fantasy"


class TestFormat1:
    """Files of before 2026-11, where descriptions stood in the order of the fields."""

    @pytest.fixture
    def old(self, saved):
        data = json.loads(saved.read_text(encoding="utf-8"))
        held = data.pop("predictors")["reason"]
        fields = [{"prefix": f"{name}:", "description": f"old {name}"} for name in (*held["inputs"], *held["outputs"])]
        demo = held["demos"][0] | {"profile": str(Profile.of(HISTORY).local())}
        signature = {"instructions": "Choose well.", "fields": fields}
        state = {"traces": [], "train": [], "demos": [demo], "signature": signature, "lm": None}
        names = {"inputs": [*held["inputs"]], "outputs": [*held["outputs"]]}
        for new in ("made", "settings", "redacted"):
            del data[new]
        return data | {"format": 1, "fields": names, "state": {"reason": state}}

    def test_format_1_loads(self, old, saved):
        saved.write_text(json.dumps(old))
        module = program()
        assert load_program(module, saved, task="film")["settings"] == {}
        assert module.reason.signature.instructions == "Choose well." and len(module.reason.demos) == 1
        assert module.reason.signature.fields["tag"].json_schema_extra["desc"] == "old tag"

    def test_format_1_with_candidates_loads(self, old, saved):
        described = [
            {"prefix": "", "description": f"old {name}"}
            for name in ("film", "profile", "candidates", "comparison", "tag")
        ]
        old["state"]["synthesize"] = {"signature": {"instructions": "Compare.", "fields": described}, "demos": []}
        saved.write_text(json.dumps(old))
        module = program(candidates=3, reconcile="synthesis")
        load_program(module, saved)
        descriptions = {
            name: info.json_schema_extra["desc"] for name, info in module.synthesize.signature.fields.items()
        }
        assert descriptions["comparison"] == "old comparison" and descriptions["tag"] == "old tag"

    @pytest.mark.parametrize(
        "damage",
        [
            change("state", {"reason": None}),
            change("state", []),
            change("fields", ["film"]),
            change("fields", "outputs", ...),
            change("state", "reason", "signature", "fields", []),
            change("state", "reason", "demos", ...),
        ],
    )
    def test_damaged_format_1_is_refused(self, old, saved, damage):
        saved.write_text(damage(old))
        with pytest.raises(ArtifactError, match="is damaged"):
            load_program(program(), saved)


class TestRedacting:
    @pytest.fixture
    def left(self, saved):
        return redacted(read_artifact(saved))

    def test_redacted_program_loads_without_demos(self, left, saved, scripted):
        engine = scripted(completion())
        write_artifact(left, saved)
        text = saved.read_text(encoding="utf-8")
        assert not [word for word in ("lighthouse", "wizard", "demo film", "requirement»") if word in text]
        module = compiled()
        about = load_program(module, saved, task="film")
        assert about["redacted"] and "not quite the program" in about["warning"]
        assert module.reason.demos == [] and read_artifact(saved).predictors["reason"].left_out == 1
        assert ask(module).tag == "romance" and "Choose well." in engine.requests[0].system

    def test_original_is_unchanged(self, saved):
        artifact = read_artifact(saved)
        before = artifact.model_copy(deep=True)
        redacted(artifact)
        assert artifact == before

    def test_redacting_twice_changes_nothing(self, left):
        assert redacted(left) == left

    def test_quotes_are_left_out(self, saved):
        artifact = read_artifact(saved)
        artifact.predictors[
            "reason"
        ].instructions = (
            "Users who wrote 'Never, EVER buy this terrible\nlamp again' rate low. Others who buy this lamp do not."
        )
        artifact.notes = {"errors": [{"said": "never ever buy this terrible lamp"}], "demos": 1}
        text = "i say: never ever buy this terrible lamp again, friends"
        left = redacted(artifact, [text])
        assert left.predictors["reason"].instructions == (
            "Users who wrote '[…]' rate low. Others who buy this lamp do not."
        )
        assert left.notes == {"errors": [{"said": "[…]"}], "demos": 1}

    @given(st.lists(st.sampled_from("abcd"), max_size=30), st.lists(st.sampled_from("abcd"), max_size=30))
    def test_no_six_words_of_a_user_are_left(self, said, wrote):
        held = Predictor(instructions=" ".join(said), inputs={}, outputs={})
        left = redacted(Artifact(task=None, template=[], predictors={"reason": held}), [" ".join(wrote)])
        kept = left.predictors["reason"].instructions
        for run in (" ".join(wrote[at : at + 6]) for at in range(len(wrote) - 5)):
            assert run not in kept
        assert [word for word in kept.split() if word != "[…]"] == [
            word for at, word in enumerate(said)
            if not any(" ".join(said[start : start + 6]) in " ".join(wrote) and start + 6 <= len(said)
                       for start in range(max(0, at - 5), at + 1))
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("script", "sentence"),
        [
            ("Chinese", "灯塔看守人在礁石上发现了一艘失事的旧船。"),
            ("Japanese", "灯台守は岩の上で難破船を見つけて泣いた。"),
            ("Korean", "등대지기는 바위 위에서 부서진 배 한 척을 발견했다"),
            ("Thai", "คนเฝ้าประภาคารพบซากเรืออับปางบนโขดหิน"),
            ("Russian", "Смотритель маяка нашёл на скалах обломки старого корабля"),
            ("Arabic", "وجد حارس المنارة حطام سفينة قديمة على الصخور"),
            ("Hindi", "प्रकाशस्तंभ के रखवाले को चट्टानों पर एक टूटा हुआ जहाज़ मिला"),
            ("accents", "Le gardien a découvert l’épave écrasée près du rocher"),
        ],
    )
    @pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC"])
    def test_sentences_of_any_script_are_left_out(self, script, sentence, form):
        instructions = f"A user wrote: {unicodedata.normalize(form, sentence).upper()} — so 短く."
        held = Predictor(instructions=instructions, inputs={}, outputs={})
        left = redacted(Artifact(task=None, template=[], predictors={"reason": held}), [sentence])
        kept = left.predictors["reason"].instructions
        assert kept.startswith("A user wrote: […]") and kept.endswith(" — so 短く."), script
        assert len(kept) < len("A user wrote: […]. — so 短く.") + 2

    def test_common_words_of_scripts_without_spaces_stay(self):
        held = Predictor(instructions="请根据用户的历史写标题。プログラミング", inputs={}, outputs={})
        wrote = "请根据用户的要求。プログラミングが好き"
        left = redacted(Artifact(task=None, template=[], predictors={"reason": held}), [wrote])
        assert left.predictors["reason"].instructions == held.instructions

    @given(st.text(max_size=60), st.text(max_size=60))
    def test_any_text_is_redacted_once(self, said, wrote):
        held = Predictor(instructions=said + wrote, inputs={}, outputs={})
        artifact = Artifact(task=None, template=[], predictors={"reason": held})
        left = redacted(artifact, [wrote])
        assert redacted(left, [wrote]).predictors["reason"].instructions == left.predictors["reason"].instructions


def test_a_program_can_be_loaded_into_again_and_again(saved):
    module = program()
    for _ in range(150):
        load_program(module, saved, task="film")
    assert module.reason.signature.instructions == "Choose well."


@pytest.mark.parametrize("piece", ["[],", "{},", "1,", '"",'])
def test_a_file_of_many_small_values_is_refused_before_it_is_read(piece, tmp_path):
    path = tmp_path / "program.json"
    path.write_text("[" + piece * 10_000_000 + "1]")
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="more than 500,000 values"):
        read_artifact(path)
    assert tracemalloc.get_traced_memory()[1] < 60_000_000
    tracemalloc.stop()
