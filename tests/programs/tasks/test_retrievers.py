"""Retrievers by name: what the command line makes of them, and what it says of those that it does not know."""

import json

import pytest
from click.testing import CliRunner

import cli
from programs.tasks import TASKS
from programs.tasks.retrievers import RETRIEVERS, retriever
from r2p_dspy import All, Budget, Profile
from tests.embedders import build_encoder


@pytest.fixture(scope="module")
def encoder_dir(tmp_path_factory):
    return build_encoder(tmp_path_factory.mktemp("encoder") / "model")


def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("task_name", TASKS)
def test_dense_matches_the_texts_of_bm25(task_name, encoder_dir):
    task = TASKS[task_name]
    sparse, dense = (retriever(task, name, k=3) for name in ("bm25", f"dense:{encoder_dir}"))
    assert (dense.k, dense.query, dense.text) == (sparse.k, sparse.query, sparse.text) and not dense.normalize
    hybrid = retriever(task, f"hybrid:{encoder_dir}", k=3)
    assert hybrid.k == 3 and hybrid.query == sparse.query
    assert [type(part).__name__ for part in hybrid.retrievers] == ["BM25", "Dense"]


def test_budget_wraps_any_retriever():
    limited = retriever(TASKS["lamp2"], "all", tokens=40)
    assert limited == Budget(All(), 40) and limited("q", Profile()) == Profile()


def test_budget_shortens_every_prompt(encoder_dir, tmp_path):
    prompts = {}
    for tokens in (30, 10_000):
        name, out = f"hybrid:{encoder_dir}", tmp_path / str(tokens)
        limits = ["--retriever", name, "--retriever-tokens", tokens, "--k", 3, "--limit", 2]
        result = run("evaluate", "--controls", *limits, "--output", out)
        assert result.exit_code == 0, result.stderr
        report = json.loads((out / "report.json").read_text())
        assert (report["retriever"], report["k"], report["retriever_tokens"]) == (name, 3, tokens)
        prompts[tokens] = {
            program: entry["tokens"]["prompt"] / entry["calls"] for program, entry in report["programs"].items()
        }
    shorter = {program for program, size in prompts[30].items() if size < prompts[10_000][program]}
    assert shorter == {"predict", "cot", "r2p", "r2p:other_user", "r2p:random_items"}


@pytest.mark.parametrize(
    ("why", "options", "expected"),
    [
        ("an unknown one", ["--retriever", "google"], ["'google'", *RETRIEVERS]),
        ("an unknown kind", ["--retriever", "sparse:x"], ["'sparse:x'", *RETRIEVERS]),
        ("no model", ["--retriever", "dense"], ["'dense'", "dense:NAME"]),
        ("no model behind the colon", ["--retriever", "hybrid:"], ["'hybrid:'", "hybrid:NAME"]),
        ("a model too many", ["--retriever", "bm25:x"], ["'bm25:x'", *RETRIEVERS]),
        ("nothing", ["--retriever", ""], RETRIEVERS),
        ("a model that is nowhere", ["--retriever", "dense:./nowhere"], ["embedder './nowhere'", "no such directory"]),
        ("a model of no organization", ["--retriever", "hybrid:bert"], ["embedder 'bert'", "ORG/NAME"]),
        ("no token", ["--retriever-tokens", "0"], ["--retriever-tokens", "0"]),
        ("half a token", ["--retriever-tokens", "0.5"], ["--retriever-tokens", "0.5"]),
    ],
)
def test_invalid_retrievers_are_one_line(why, options, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("evaluate", *options)
    assert result.exit_code == 2, why
    assert all(word in result.stderr for word in expected) and result.stderr.count("\n") == 1, why
    assert not any(tmp_path.iterdir()), "nothing half-written"


def test_embedding_model_without_key(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    arguments = ["--retriever", "dense:openai/text-embedding-3-small", "--limit", 1, "--output", tmp_path / "run"]
    result = run("evaluate", *arguments)
    assert result.exit_code == 2 and result.stderr.splitlines()[-1].startswith("Error: embedder 'openai/text-")
    assert "set its key" in result.stderr and "Traceback" not in result.stderr + result.stdout
