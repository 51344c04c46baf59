"""What a model's name tells: its sampling, its limits, and whether its thoughts can be seen."""

import dspy
import pytest

from r2p_dspy import connect
from r2p_dspy.engines.families import family_of, recommended_sampling
from r2p_dspy.prompting.tags import render
from r2p_dspy.template import TEMPLATE
from tests.endpoint import Endpoint, Reply
from tests.film import ask, fields, program

PLAIN, OPENAI, R1 = {"temperature": 0.0}, {"temperature": None}, {"temperature": 0.6, "top_p": 0.95}
QWEN = {**R1, "top_k": 20}


@pytest.mark.parametrize(
    ("names", "sampling", "hides"),
    [
        ("openai/o3 openrouter/openai/o3 litellm_proxy/o4-mini-2025-04-16 azure/o1 github/o1-preview", OPENAI, True),
        ("openai/gpt-5 openai/gpt-5-mini openai/gpt-5.1 openrouter/openai/gpt-5:online", OPENAI, True),
        ("openai/gpt-5-chat-latest openai/gpt-5.1-chat-latest openai/gpt-4o openai/gpt-50", PLAIN, False),
        ("hosted_vllm/AIDC-AI/Marco-o1 hosted_vllm/oracle pocket hf:runs/x/model", PLAIN, False),
        ("anthropic/claude-sonnet-4-5 bedrock/us.anthropic.claude-opus-4-1-v1:0 gemini/gemini-2.5-pro", PLAIN, True),
        ("anthropic/claude-3-7-sonnet-20250219 gemini/gemini-2.0-flash", PLAIN, False),
        ("hosted_vllm/deepseek-ai/DeepSeek-R1-Distill-Qwen-7B ollama_chat/deepseek-r1:7b", R1, False),
        ("openrouter/deepseek/deepseek-r1:free deepseek/deepseek-reasoner", R1, False),
        ("hf:Qwen/Qwen3-8B hosted_vllm/Qwen/Qwen3-4B-Thinking-2507", QWEN, False),
        ("hf:/models/Qwen3-8B/ hosted_vllm/Qwen/QwQ-32B", QWEN, False),
        ("ollama_chat/qwen3:8b groq/qwen-qwq-32b openai/Qwen/Qwen3-8B", R1, False),  # they take no top_k
        ("hf:Qwen/Qwen3-4B-Instruct-2507 hf:Qwen/Qwen3-8B-Base hosted_vllm/Qwen/Qwen3-Coder-30B", PLAIN, False),
    ],
)
def test_name_decides(names, sampling, hides):
    for name in names.split():
        assert recommended_sampling(name, {}) == sampling, name
        assert family_of(name).hides_thoughts is hides, name


@pytest.mark.parametrize(
    "settings",
    [
        {"reasoning": False},
        {"reasoning_effort": "none"},
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}},
    ],
)
def test_sampling_of_thinking_needs_thinking(settings):
    assert recommended_sampling("hosted_vllm/Qwen/Qwen3-8B", settings) == PLAIN


TAG = "[[ ## tag ## ]]\nromance\n\n[[ ## completed ## ]]"


def hiding(body):
    """The answer of a model whose API shows no thought: it writes what it is asked for."""
    asked = "\n".join(message["content"] for message in body["messages"])
    thought = f"[[ ## reasoning ## ]]\n{render(TEMPLATE, fields())}\n\n" if "[[ ## reasoning ## ]]" in asked else ""
    return Reply.text(thought + TAG)


@pytest.mark.chat  # its model writes the chat adapter's markers
@pytest.mark.parametrize("model", ["openai/o3", "openrouter/openai/o3", "litellm_proxy/o4-mini", "openai/gpt-5-mini"])
def test_hidden_thought_is_asked_for_in_the_text(model):
    with Endpoint(hiding) as endpoint:
        with dspy.context(lm=connect(model, api_base=endpoint.api_base, api_key="none", cache=False)):
            answer = ask(program(carrier="thinking"))
        assert answer.tag == "romance" and endpoint.asked == 1 and not answer.violations
        assert "hides its thoughts" in " ".join(answer.warnings)
        assert "temperature" not in endpoint.bodies("/v1/chat/completions")[0]


def test_shown_thought_is_not_asked_for_twice():
    with Endpoint(Reply.text(TAG, thought=render(TEMPLATE, fields()))) as endpoint:
        with dspy.context(lm=connect("openai/o3", api_base=endpoint.api_base, reasoning=True, cache=False)):
            answer = ask(program(carrier="thinking"))  # a server of the user's, whose word counts
        assert answer.tag == "romance" and endpoint.asked == 1 and not answer.warnings
        assert "[[ ## reasoning ## ]]" not in endpoint.prompts()[0]
