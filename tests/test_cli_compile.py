"""The options of `compile` that say how: what is refused in one line, before anything is written or paid for."""

import pytest
from click.testing import CliRunner

import cli


@pytest.mark.parametrize(
    ("why", "arguments", "said"),
    [
        ("no model that writes", ["--optimizer", "gepa"], "gepa needs a model that writes instructions"),
        ("no model that writes", ["--optimizer", "mipro"], "add --reflection-model MODEL"),
        ("no model that writes", ["--optimizer", "copro"], "or take random, bootstrap, knn or simba"),
        ("a small one", ["--optimizer", "gepa", "--reflection-model", "pocket"], "the pocket model cannot write"),
        ("a name of none", ["--optimizer", "gepa", "--reflection-model", "gpt"], "model 'gpt': use pocket, smollm2"),
        (
            "one that nobody serves",
            ["--optimizer", "gepa", "--reflection-model", "hosted_vllm/x", "--reflection-api-base", "http://127.0.0.1:9/v1"],
            "the reflection model hosted_vllm/x cannot be reached",
        ),
        ("weights without numbers", ["--weights", "task"], "--weights takes PART=NUMBER"),
        ("an unknown part", ["--weights", "style=1"], "unknown part 'style'"),
        ("a threshold too high", ["--threshold", "2"], "--threshold"),
        ("a frontier without gepa", ["--frontier", "hybrid"], "--frontier is gepa's: drop it"),
        ("a threshold that is no number", ["--threshold", "nan"], "threshold"),
    ],
)  # fmt: skip
def test_compile_refuses_bad_options(why, arguments, said, tmp_path):
    result = CliRunner().invoke(cli.cli, ["compile", *arguments, "--output", str(tmp_path / "run")])
    assert result.exit_code == 2, why
    assert said in result.stderr and result.stderr.count("\n") == 1, why
    assert not (tmp_path / "run").exists()


def test_reflection_model_needs_its_key(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    arguments = [
        "compile",
        "--optimizer",
        "gepa",
        "--reflection-model",
        "openai/gpt-4o",
        "--output",
        str(tmp_path / "run"),
    ]
    result = CliRunner().invoke(cli.cli, arguments)
    assert result.exit_code == 2 and "cannot be reached" in result.stderr and "key" in result.stderr
    assert not (tmp_path / "run").exists()
