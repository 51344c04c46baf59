"""`connect`: one string to a language model, or one line that says what is wrong with it."""

import copy
import gc
import pickle
import shutil
import subprocess
import sys
import threading

import cloudpickle
import dspy
import pytest

from r2p_dspy.engines import connect, context_window, count_tokens, weights
from r2p_dspy.engines.local.engine import TransformersEngine
from tests.endpoint import Endpoint


@pytest.fixture
def offline(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    "model, options, says",
    [
        ("", {}, "pocket, smollm2, hf:DIR_OR_NAME"),
        ("gpt-4o", {}, "'gpt-4o'.*PROVIDER/NAME"),
        ("openai/", {}, "'openai/'.*PROVIDER/NAME"),
        ("/no/provider", {}, "'/no/provider'"),
        ("Qwen/Qwen3-0.6B", {}, "DSPy knows no provider 'Qwen'.*hf:Qwen/Qwen3-0.6B"),
        ("hf:./no-such-directory", {}, "no such directory"),
        ("hf:justaname", {}, "'hf:justaname'.*no such directory"),
        ("hf:", {}, "no such directory"),
        ("hf:no/such-model", {}, "'hf:no/such-model' cannot be loaded"),
        ("pocket", {"api_base": "http://localhost:8000/v1"}, "drop api_base"),
        ("pocket", {"api_key": "sk-123"}, "drop api_key"),
        ("openai/o3", {"temperature": 0.7}, "takes no temperature but its own, which is 1"),
        ("openrouter/openai/o4-mini", {"max_tokens": 500}, "at least 16000"),
        ("openai/o3", {"reasoning": True}, "does not show its thoughts"),
        ("openai/gpt-4o", {"reasoning": True}, "does not think natively"),
        ("openai/gpt-4o", {"temperature": -1}, "between 0 and 2, not -1"),
    ],
)
def test_bad_name_is_a_one_line_error(offline, model, options, says):
    with pytest.raises(ValueError, match=says) as refusal:
        connect(model, **options)
    assert "\n" not in str(refusal.value)
    assert "sk-123" not in str(refusal.value)


def test_missing_pocket_model_is_a_one_line_error(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "POCKET", tmp_path)
    with pytest.raises(ValueError, match="'pocket'.*missing") as refusal:
        connect()
    assert "\n" not in str(refusal.value)


def test_pocket_is_the_default(monkeypatch, tiny_model_dir, tmp_path):
    shutil.copytree(tiny_model_dir, tmp_path / "pocket")
    monkeypatch.setattr(weights, "POCKET", tmp_path / "pocket")
    lm = connect(max_tokens=4)
    assert lm.model.startswith("local/pocket-")
    assert str(tmp_path) not in str(lm.dump_state())  # an artifact names no path of this machine
    assert lm.copy(cache=False)("Hello") == connect("pocket", max_tokens=4, cache=False)("Hello")


@pytest.mark.parametrize("content", [{}, {"config.json": "{}"}], ids=["empty", "no weights"])
def test_directory_without_model_is_named(tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=tmp_path.name) as refusal:
        connect(f"hf:{tmp_path}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "model, options, kwargs",
    [
        ("openai/gpt-4o-mini", {}, {"temperature": 0.0, "max_tokens": None}),
        ("anthropic/claude-sonnet-4-5", {"max_tokens": 9, "temperature": 0.5}, {"temperature": 0.5, "max_tokens": 9}),
        ("ollama_chat/llama3", {"seed": 3}, {"seed": 3}),
        ("hosted_vllm/some/model", {"api_base": "http://x:8000/v1"}, {"api_base": "http://x:8000/v1"}),
        ("openai/gpt-5-mini", {}, {"temperature": None}),
        ("openrouter/openai/o3", {}, {"temperature": None}),
        ("litellm_proxy/o4-mini-2025-04-16", {"temperature": 0}, {"temperature": None}),
        ("openai/o3", {"temperature": 1.0, "max_tokens": 20_000}, {"temperature": 1.0}),
        ("openrouter/deepseek/deepseek-r1", {}, {"temperature": 0.6, "top_p": 0.95}),
        ("hosted_vllm/Qwen/Qwen3-8B", {}, {"temperature": 0.6, "top_p": 0.95, "extra_body": {"top_k": 20}}),
        ("hosted_vllm/Qwen/Qwen3-8B", {"temperature": 0}, {"temperature": 0}),
        ("hosted_vllm/Qwen/Qwen3-8B", {"temperature": None}, {"temperature": None}),
        ("hosted_vllm/m", {"min_p": 0.1, "extra_body": {"a": 1}}, {"extra_body": {"min_p": 0.1, "a": 1}}),
    ],
)
def test_served_model_is_a_plain_lm(model, options, kwargs):
    lm = connect(model, cache=False, **options)
    assert isinstance(lm, dspy.LM) and lm.model == model and lm.cache is False and isinstance(lm.engine, str)
    assert {name: lm.kwargs[name] for name in kwargs} == kwargs


class TestKeys:
    KEY = "sk-very-secret"

    @pytest.fixture(autouse=True)
    def no_keys(self, monkeypatch):
        for name in ("OPENAI_API_KEY", "HOSTED_VLLM_API_KEY", "LITELLM_PROXY_API_KEY"):
            monkeypatch.delenv(name, raising=False)

    @pytest.mark.parametrize("model", ["openai/m", "hosted_vllm/m", "litellm_proxy/m"])
    def test_local_server_needs_none(self, model):
        with Endpoint("hello") as endpoint:
            assert connect(model, api_base=endpoint.api_base, cache=False)("Hi") == ["hello"]

    @pytest.mark.parametrize("model", ["openai/m", "hosted_vllm/m"])
    def test_given_key_is_sent_by_copies_too_and_stored_nowhere(self, model, monkeypatch):
        with Endpoint("hello") as endpoint:
            lm = connect(model, api_base=endpoint.api_base, api_key=self.KEY, cache=False)
            for each in (lm, lm.copy(temperature=1.0), copy.deepcopy(lm)):
                assert each("Hi") == ["hello"]
            assert endpoint.keys == {f"Bearer {self.KEY}"}
            program = dspy.Predict("question -> answer")
            program.set_lm(lm)
            stored = [pickle.dumps(lm), cloudpickle.dumps(program)]
            assert not [text for text in stored if self.KEY.encode() in text]
            assert self.KEY not in f"{lm.dump_state()} {program.dump_state()} {lm.history} {vars(lm)}"
            endpoint.keys.clear()
            monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
            monkeypatch.setenv("HOSTED_VLLM_API_KEY", "of-the-environment")
            pickle.loads(stored[0])("Hi")
            assert endpoint.keys == {"Bearer of-the-environment"}


class TestOneModelInMemory:
    def test_connecting_twice_loads_once(self, tiny_model_dir):
        first, second = connect(f"hf:{tiny_model_dir}"), connect(f"hf:{tiny_model_dir}", temperature=1.0, max_batch=32)
        assert first.engine is second.engine
        assert first.engine is not connect(f"hf:{tiny_model_dir}", max_batch=2).engine

    def test_unused_model_is_freed(self, tiny_model_dir):
        lm = connect(f"hf:{tiny_model_dir}", max_batch=3, max_tokens=2, cache=False)
        lm("Hello")
        thread = lm.engine._batch._thread
        assert thread in threading.enumerate()
        del lm
        gc.collect()
        thread.join(timeout=10)
        assert not thread.is_alive()

    def test_closed_engine_is_not_shared(self, tiny_model_dir):
        lm = connect(f"hf:{tiny_model_dir}", max_batch=4)
        lm.engine.close()
        again = connect(f"hf:{tiny_model_dir}", max_batch=4, max_tokens=2, cache=False)
        assert again("Hello")

    @pytest.mark.parametrize("changed", ["weights", "template"])
    def test_changed_files_make_another_model(self, tiny_model_dir, tmp_path, changed):
        directory = shutil.copytree(tiny_model_dir, tmp_path / "model")
        before = connect(f"hf:{directory}")
        (directory / "README.md").write_text("a card changes nothing")
        assert connect(f"hf:{directory}").engine is before.engine
        if changed == "weights":
            from safetensors.torch import load_file, save_file

            tensors = load_file(directory / "model.safetensors")
            tensors["model.norm.weight"] += 1
            save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        else:
            template = (directory / "chat_template.jinja").read_text()
            (directory / "chat_template.jinja").write_text(template.replace("assistant", "model"))
        after = connect(f"hf:{directory}")
        assert after.engine is not before.engine
        assert after.model != before.model  # or DSPy's cache would mix their answers


def test_exact_context_and_tokens_in_process(tiny_model_dir):
    lm = connect(f"hf:{tiny_model_dir}")
    assert context_window(lm) == 512
    assert count_tokens(lm, "") == 0
    assert count_tokens(lm, "<|im_end|>") > 1  # text, not a control token
    short, long = (lm.engine.complete(request(lm, "a" * n)).usage.input_tokens for n in (0, 40))
    assert count_tokens(lm, "a" * 40) == long - short


def request(lm, text):
    from dspy.lm15 import Config, Message, Request

    return Request(lm.model, (Message.user(text),), config=Config(max_tokens=1))


@pytest.mark.parametrize(
    "model, window", [("openai/gpt-4o-mini", 128_000), ("hosted_vllm/unheard-of", None), ("openai/unheard-of", None)]
)
def test_estimated_context_and_tokens_elsewhere(model, window):
    lm = connect(model)
    assert context_window(lm) == window
    assert count_tokens(lm, "a" * 35) == 10
    assert count_tokens(lm, "灯" * 10) == 15 and count_tokens(None, "🎉" * 10) == 30


def test_options_are_checked(tiny_model_dir):
    with pytest.raises(ValueError, match="max_batch"):
        TransformersEngine(str(tiny_model_dir), max_batch=0)


def test_import_loads_no_torch_or_litellm():
    code = (
        "import sys, r2p_dspy.engines as e; e.connect('openai/gpt-4o'); "
        "print([m for m in ('torch', 'transformers', 'litellm') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"
