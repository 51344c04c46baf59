"""Which model a command asks, and how: settings of `--lm`, limits of answers, and what reports tell."""

import dspy
import pytest

from programs.runs.configs import EvaluateConfig, PredictConfig
from programs.runs.model import ADAPTERS, ModelConfig, lm_settings, read_settings
from programs.tasks import TASKS
from programs.tasks.answer_length import tokens_needed
from programs.tasks.program import R2PConfig, build
from r2p_dspy.errors import ConfigError
from tests.endpoint import Endpoint

THINKING_OFF = {"chat_template_kwargs": {"enable_thinking": False}}


@pytest.mark.parametrize(
    ("pairs", "settings"),
    [
        ([], {}),
        (["top_p=0.9", "num_retries=5"], {"top_p": 0.9, "num_retries": 5}),
        (["reasoning_effort=high"], {"reasoning_effort": "high"}),
        (["note=a=b"], {"note": "a=b"}),
        (['stop=["END"]'], {"stop": ["END"]}),
        (["extra_body.chat_template_kwargs.enable_thinking=false"], {"extra_body": THINKING_OFF}),
        (['extra_body={"chat_template_kwargs": {"enable_thinking": false}}'], {"extra_body": THINKING_OFF}),
        (["extra_body.top_k=5", "extra_body.min_p=0.1"], {"extra_body": {"top_k": 5, "min_p": 0.1}}),
        (["user="], {"user": ""}),
        (["logit_bias=null"], {"logit_bias": None}),
    ],
)
def test_settings_are_read(pairs, settings):
    assert read_settings(pairs) == settings


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["top_p"], "write KEY=VALUE"),
        (["=1"], "write KEY=VALUE"),
        (["extra_body.=1"], "write KEY=VALUE"),
        (["a..b=1"], "write KEY=VALUE"),
        (["top_p=1", "top_p=2"], "has a value already"),
        (["a=1", "a.b=2"], "has a value already"),
        (["temperature=1"], "use --temperature"),
        (["max_tokens=5"], "use --answer-tokens"),
        (["api_base=http://x"], "use --api-base"),
        (["reasoning=true"], "use --reasoning"),
        (["api_key=sk-123"], "set it in the environment"),
        (["aws_secret_access_key=123"], "set it in the environment"),
        (["azure_ad_token=123"], "set it in the environment"),
        (['extra_headers={"Authorization": "Bearer sk-123"}'], "set it in the environment"),
        (["extra_headers.authorization=sk-123"], "set it in the environment"),
        (['extra_body={"a": [{"api-key": "sk-123"}]}'], "set it in the environment"),
    ],
)
def test_bad_settings_are_one_line_without_secrets(pairs, said):
    with pytest.raises(ConfigError, match=said) as refusal:
        read_settings(pairs)
    assert "\n" not in str(refusal.value) and "sk-123" not in str(refusal.value)


def test_setting_that_dspy_refuses_is_one_line():
    config = ModelConfig("openai/gpt-4o", settings={"num_retries": "many"})
    with pytest.raises(ConfigError, match="--lm has a value that DSPy refuses: num_retries"):
        config.connect(cache=False)


HEADLINES = ["Rain On Monday", "A Longer Headline With Some Words More"]


@pytest.mark.parametrize(
    ("task", "answers", "program", "least", "most"),
    [
        ("lamp2", (), "predict", 100, 200),
        ("lamp2", (), "cot", 400, 700),
        ("lamp2", (), "r2p", 1500, 3000),
        ("lamp4", HEADLINES, "predict", 100, 250),
        ("lamp4", ["word " * 300], "predict", 1000, 1500),
        ("lamp4", (), "predict", 500, 800),
    ],
)
def test_answers_need_what_the_task_s_answers_take(task, answers, program, least, most):
    signature = TASKS[task].signature
    programs = {"predict": dspy.Predict, "cot": dspy.ChainOfThought}
    module = build(TASKS[task], R2PConfig()) if program == "r2p" else programs[program](signature)
    assert least <= tokens_needed(TASKS[task], module, answers) <= most


def test_demos_tell_how_long_answers_are():
    module = dspy.Predict(TASKS["lamp4"].signature)
    unknown = tokens_needed(TASKS["lamp4"], module)
    module.demos = [dspy.Example(headline=HEADLINES[0])]
    assert tokens_needed(TASKS["lamp4"], module) < unknown


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        (ModelConfig("pocket"), 256),
        (ModelConfig("pocket", answer_tokens=900), 900),
        (ModelConfig("openai/gpt-4o"), 700),
        (ModelConfig("openai/gpt-4o", answer_tokens=50), 50),
        (ModelConfig("hosted_vllm/unheard-of"), 700),
        (ModelConfig("openai/o3"), 16_000),
        (ModelConfig("openrouter/openai/o3"), 16_000),
        (ModelConfig("hf:Qwen/Qwen3-0.6B"), 16_000),
        (ModelConfig("hosted_vllm/unheard-of", reasoning=True), 16_000),
        (ModelConfig("anthropic/claude-sonnet-4-5"), 16_000),
    ],
)
def test_limit_leaves_room_to_think(model, limit):
    assert model.answer_limit(700) == limit


def test_limit_leaves_room_for_the_prompt():
    assert ModelConfig("openai/gpt-4").connect(cache=False, needed=7000).kwargs["max_tokens"] == 4096  # of 8192
    assert ModelConfig("openai/gpt-4", answer_tokens=7000).connect(cache=False).kwargs["max_tokens"] == 7000


def test_thought_of_unknown_server_has_its_own_limit():
    model = ModelConfig("openai/unheard-of", "http://localhost:1/v1")
    assert model.connect(cache=False, needed=700, carrier="thinking").kwargs.get("max_tokens") is None
    assert model.connect(cache=False, needed=700).kwargs["max_tokens"] == 700


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        (ModelConfig("openai/mine", "http://localhost:1/v1"), True),
        (ModelConfig("hosted_vllm/mine"), True),
        (ModelConfig("openai/mine", "http://localhost:1/v1", reasoning=False), False),
        (ModelConfig("openai/gpt-4o", "http://localhost:1/v1"), False),
        (ModelConfig("openai/o3", "http://localhost:1/v1", reasoning=True), True),
    ],
)
def test_thinking_carrier_asks_for_thoughts_that_are_shown(model, shown):
    assert bool(model.connect(cache=False, carrier="thinking").supports_reasoning) is shown


def test_options_are_recorded_without_keys():
    given = {"temperature": None, "answer_tokens": 90, "adapter": "json", "reasoning": False, "lm": ("top_p=0.5",)}
    recorded = {
        "temperature": 0.0, "answer_tokens": 90, "adapter": "json", "reasoning": False, "lm_settings": {"top_p": 0.5},
    }  # fmt: skip
    for config in (
        EvaluateConfig.of(task="lamp2", model="openai/gpt-4o", **given),
        PredictConfig.of("a", "b", task="lamp2", model="openai/gpt-4o", **given),
    ):
        assert {name: config.options()[name] for name in recorded} == recorded
    assert EvaluateConfig.of(task="lamp2", model="hosted_vllm/Qwen/Qwen3-8B").options()["temperature"] == 0.6
    assert EvaluateConfig.of(task="lamp2", model="openai/o3", temperature=0).options()["temperature"] is None
    lm = ModelConfig("hosted_vllm/Qwen/Qwen3-8B", "http://localhost:1/v1").connect(cache=False)
    assert lm_settings(lm.copy(api_key="sk-123"), "xml") == {
        "temperature": 0.6, "top_p": 0.95, "extra_body": {"top_k": 20}, "api_base": "http://localhost:1/v1", "seed": 0,
        "adapter": "xml", "reasoning": False, "timeout": 120.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", [*ADAPTERS, None])
def test_programs_are_asked_in_the_adapter(name):
    with Endpoint("{}") as endpoint:
        model = ModelConfig("openai/m", endpoint.api_base, adapter=name)
        with model.asking(model.connect(cache=False)):
            assert type(dspy.settings.adapter) is ADAPTERS.get(name, type(None))
    with pytest.raises(ConfigError, match="unknown adapter 'yaml'; the adapters are chat, json, xml, baml"):
        ModelConfig(adapter="yaml").asking(dspy.settings.lm)
