"""The command line on endpoints like real ones: reasoning models, adapters, limits, settings, and what runs record."""

import json

import pytest
from click.testing import CliRunner

import cli
from r2p_dspy.prompting.tags import render
from r2p_dspy.template import TEMPLATE
from tests.endpoint import Endpoint, Reply
from tests.film import fields

ANSWER = "[[ ## tag ## ]]\ncomedy\n\n[[ ## completed ## ]]"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def evaluate(endpoint, directory, *options, model="openai/mine"):
    arguments = ["evaluate", "--limit", 2, "--num-threads", 1, "--model", model, "--output", directory]
    result = CliRunner().invoke(cli.cli, [*map(str, arguments), "--api-base", endpoint.api_base, *options])
    assert result.exit_code == 0, result.output + result.stderr
    read = (json.loads((directory / name).read_text()) for name in ("report.json", "config.json"))
    return *read, result


def limit_of(body):
    """The limit of an answer; OpenAI's own client spells it in another way than LiteLLM's."""
    return body.get("max_tokens") or body["max_completion_tokens"]


def thinker(body):
    """A served reasoner: it cites the first item of the prompt, and its thought is no part of the text."""
    prompt = "\n".join(message["content"] for message in body["messages"])
    shown = [json.loads(line) for line in prompt.splitlines() if line.startswith('{"item": "1"')]
    evidence = [{"item": "1", "quote": shown[-1]["description"]}] if shown else []
    preferences = [{"statement": "tags so", "items": ["1"]}] if shown else []
    return Reply.text(ANSWER, render(TEMPLATE, fields(evidence=evidence, preferences=preferences, draft="comedy")))


def hiding(body):
    """The same model behind an API that hides its thoughts."""
    prompt = "\n".join(message["content"] for message in body["messages"])
    thought = thinker(body).beside["reasoning_content"]
    return Reply.text(f"[[ ## reasoning ## ]]\n{thought}\n\n{ANSWER}" if "[[ ## reasoning ## ]]" in prompt else ANSWER)


@pytest.mark.parametrize(
    ("model", "reply"),
    [("openai/mine", thinker), ("hosted_vllm/mine", thinker), ("openai/o3", hiding), ("litellm_proxy/o4-mini", hiding)],
)
def test_reasoning_model_on_the_thinking_carrier(model, reply, tmp_path):
    with Endpoint(reply) as endpoint:
        report, _, _ = evaluate(endpoint, tmp_path / "run", "--carrier", "thinking", model=model)
    r2p = report["programs"]["r2p"]
    assert r2p["compliance_first"] == r2p["evidence_validity_first"] == 1.0 and r2p["calls"] == 2
    assert not r2p["violations"]


@pytest.mark.parametrize(("adapter", "mark"), [("json", "JSON"), ("xml", "</tag>"), ("baml", "should be of type")])
def test_adapter_makes_prompts_of_all_programs(adapter, mark, tmp_path):
    with Endpoint(lambda body: json.dumps({**fields(), "reasoning": "hm", "tag": "comedy"})) as endpoint:
        report, config, _ = evaluate(endpoint, tmp_path / "run", "--adapter", adapter)
        requests = {prompt for prompt in endpoint.prompts() if mark in prompt}
        assert len(requests) >= 6, "three programs asked of two users"
    assert config["adapter"] == report["lm_settings"]["adapter"] == adapter


def test_settings_reach_the_server_and_are_recorded(tmp_path):
    options = ["--lm", "top_p=0.9", "--lm", "extra_body.chat_template_kwargs.enable_thinking=false"]
    with Endpoint(thinker) as endpoint:
        report, config, _ = evaluate(endpoint, tmp_path / "run", *options, "--answer-tokens", "321", "--no-reasoning")
        for body in endpoint.bodies("/v1/chat/completions"):
            assert (body["top_p"], limit_of(body), body["temperature"]) == (0.9, 321, 0.0)
            assert body["chat_template_kwargs"] == {"enable_thinking": False}
    extra_body = {"chat_template_kwargs": {"enable_thinking": False}}
    assert config["lm_settings"] == {"top_p": 0.9, "extra_body": extra_body}
    assert (config["answer_tokens"], config["reasoning"], config["temperature"]) == (321, False, 0.0)
    told = report["lm_settings"]
    assert (told["top_p"], told["max_tokens"], told["extra_body"], told["adapter"]) == (0.9, 321, extra_body, "chat")


def test_limits_come_from_the_task(tmp_path):
    with Endpoint(thinker) as endpoint:
        report, _, _ = evaluate(endpoint, tmp_path / "run")
        plain, chain, r2p = sorted({limit_of(body) for body in endpoint.bodies("/v1/chat/completions")})
    assert plain < 200 < chain < 700 < r2p == report["lm_settings"]["max_tokens"]


def test_makers_sampling_is_used_and_recorded(tmp_path):
    with Endpoint(thinker) as endpoint:
        report, config, _ = evaluate(endpoint, tmp_path / "run", model="openai/Qwen/Qwen3-8B")
        assert {body["temperature"] for body in endpoint.bodies("/v1/chat/completions")} == {0.6}
    assert report["temperature"] == config["temperature"] == 0.6 and report["lm_settings"]["top_p"] == 0.95


def test_pocket_keeps_its_own_settings(tmp_path):
    result = CliRunner().invoke(cli.cli, ["evaluate", "--limit", "2", "--output", str(tmp_path / "run")])
    assert result.exit_code == 0, result.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    expected = {"temperature": 0.0, "max_tokens": 256, "seed": 0, "adapter": "chat", "reasoning": True}
    assert report["temperature"] == 0.0 and report["lm_settings"] == expected


@pytest.mark.parametrize("command", ["compile", "evaluate", "sweep", "predict", "finetune"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--adapter", "yaml"], "'yaml' is not one of"),
        (["--lm", "top_p"], "write KEY=VALUE"),
        (["--lm", "api_key=sk-123"], "set it in the environment"),
        (["--lm", "temperature=1"], "use --temperature"),
        (["--answer-tokens", "0"], "0 is not in the range"),
    ],
)
def test_bad_options_are_one_line(command, options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    files = ["--input", "rows.jsonl", "--output", "out.jsonl"] if command == "predict" else []
    result = CliRunner().invoke(cli.cli, [command, *files, "--model", "openai/gpt-4o", *options])
    assert result.exit_code == 2 and said in result.stderr, result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1 and "sk-123" not in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "openai/o3", "--reasoning"], "does not show its thoughts"),
        (["--model", "openai/gpt-4o", "--reasoning"], "does not think natively"),
        (["--model", "openai/o3", "--temperature", "0.5"], "no temperature but its own"),
        (["--model", "openai/o3", "--answer-tokens", "500"], "at least 16000"),
        (["--model", "openai/gpt-4o", "--lm", "num_retries=many"], "num_retries must be"),
    ],
)
def test_what_a_model_cannot_do_is_one_line(options, said, tmp_path):
    result = CliRunner().invoke(cli.cli, ["evaluate", "--limit", "2", "--output", str(tmp_path / "run"), *options])
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") <= 2, result.stderr
    assert not (tmp_path / "run" / "config.json").exists()
