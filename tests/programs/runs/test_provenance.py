"""What a compiled program's file says of where it comes from, and what is left when texts are left out."""

import json
from dataclasses import replace

import dspy
import pytest

from programs import load
from programs.data.dataset import personas
from programs.optimize.run import run_compile
from programs.runs.configs import CompileConfig
from programs.runs.directory import read_json
from programs.runs.provenance import fingerprint
from programs.runs.reporter import Reporter
from programs.tasks import lamp2
from r2p_dspy import load_program, read_artifact
from tests.scripted import ScriptedEngine, completion

TASK = lamp2.TASK
DATA = personas(TASK, seed=0, limit=4)  # of train and dev the runs here take a dozen each
FEW = {"train": DATA.train[:12], "dev": DATA.dev[:12]}
KNOWN = {example[TASK.question]: example[TASK.answer] for example in (*DATA.train, *DATA.dev, *DATA.test)}


def answer(request):
    """A model that cites properly, and is always right once it is shown demos, else at every other question."""
    prompt = next(message.text for message in reversed(request.messages) if '"description": "' in message.text)
    question = next(known for known in KNOWN if known in prompt)
    gold = KNOWN[question]
    right = len(request.messages) > 2 or len(question) % 2
    tag = gold if right else next(label for label in TASK.labels if label != gold)
    quote = prompt.split('"description": "')[1].split('"')[0]
    return completion(
        reasoning="hm", evidence=json.dumps([{"item": "1", "quote": quote}]), preferences="[]", draft=tag, tag=tag
    )


def compiled(directory, **options):
    config = CompileConfig.of(task="lamp2", model="openai/x", limit=4, optimizer="bootstrap", **options)
    return run_compile(config, directory, False, Reporter())


@pytest.fixture
def model(monkeypatch):
    engine = ScriptedEngine(answer)

    def connect(model, **options):
        return dspy.LM(f"scripted/{model}", engine=engine, cache=False, num_retries=0)

    monkeypatch.setattr("programs.runs.model.connect", connect)
    monkeypatch.setattr("programs.data.dataset.personas", lambda task, **options: replace(DATA, **FEW))
    return engine


def test_file_holds_provenance(model, tmp_path):
    report = compiled(tmp_path / "run")
    artifact = read_artifact(tmp_path / "run" / "program.json")
    notes = artifact.notes
    assert notes["data"] == {
        "source": "persona world (synthetic)",
        "train": 12,
        "dev": 12,
        "fingerprint": fingerprint([*FEW["train"], *FEW["dev"]]),
    }
    assert (notes["model"], notes["lm"], notes["seed"]) == ("openai/x", "scripted/openai/x", 0)
    assert (notes["optimizer"], notes["winner"]) == ("bootstrap", "compiled")
    assert notes["dev_scores"].keys() == {"uncompiled", "bootstrap"}
    assert notes["metric"]["task"] == "accuracy" and sum(notes["metric"]["weights"].values()) == pytest.approx(1)
    for name in ("r2p", "compiled"):
        assert notes["test"][name] == report["programs"][name]["metrics"]
    assert notes["test"]["examples"] == 4 and artifact.versions["r2p-dspy"] and artifact.made
    assert not artifact.redacted and len(artifact.predictors["reason"].demos) == notes["demos"] > 0
    path = tmp_path / "run" / "program.json"
    assert len(path.read_text()) < 20_000, "small"
    assert path.stat().st_mode & 0o077 == 0, "it has demos"


def test_redacted_file_holds_no_user_text(model, tmp_path):
    compiled(tmp_path / "run", redact=True)
    path = tmp_path / "run" / "program.json"
    artifact, text = read_artifact(path), path.read_text()
    assert artifact.redacted and artifact.predictors["reason"].demos == []
    assert artifact.predictors["reason"].left_out == artifact.notes["demos"] > 0
    assert artifact.notes["test"]["compiled"]["accuracy"]["value"] == 1.0
    for example in (*DATA.train, *DATA.dev):
        assert example[TASK.question] not in text
        assert not [item for item in example[TASK.profile] if item.text in text]
    loaded = load("lamp2", path)
    assert loaded.reason.demos == [] and load_program(loaded, path)["redacted"]


def test_redaction_covers_quoted_texts(model, tmp_path, monkeypatch):
    words = DATA.dev[7][TASK.question]
    assert len(words.split()) >= 6

    def quoting(program, *arguments, **options):
        program = program.deepcopy()
        program.reason.signature = program.reason.signature.with_instructions(f'Think of "{words}".')
        return program, {"optimizer": "gepa", "winner": "compiled", "dev_scores": {}, "demos": 0}

    monkeypatch.setattr("programs.optimize.run.compile_program", quoting)
    compiled(tmp_path / "run", redact=True)
    assert read_artifact(tmp_path / "run" / "program.json").predictors["reason"].instructions == 'Think of "[…]".'


@pytest.mark.parametrize("redact", [False, True])
def test_resumed_run_writes_same_file(model, tmp_path, redact):
    directory = tmp_path / "run"
    compiled(directory, redact=redact)
    before = read_json(directory / "program.json")
    (directory / "report.json").unlink()
    calls = len(model.requests)
    config = CompileConfig.of(task="lamp2", model="openai/x", limit=4, optimizer="bootstrap", redact=redact)
    run_compile(config, directory, True, Reporter())
    assert read_json(directory / "program.json") == before and len(model.requests) == calls


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[::-1],
        lambda rows: rows[:-1],
        lambda rows: [*rows[:-1], dspy.Example(rows[-1], tag="other")],
        lambda rows: [*rows[:-1], dspy.Example(rows[-1], profile=list(rows[-1].profile)[:-1])],
    ],
    ids=["order", "number", "answer", "history"],
)
def test_fingerprint_changes_with_content(change):
    rows = DATA.dev[:3]
    assert fingerprint(change(rows)) != fingerprint(rows) == fingerprint(personas(TASK, seed=0, limit=1).dev[:3])
