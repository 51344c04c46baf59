"""One string to a `dspy.LM`, for every command and every program."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import dspy

from r2p_dspy.dspy_internals import is_known_provider, model_info
from r2p_dspy.engines.families import family_of, recommended_sampling
from r2p_dspy.engines.keys import ApiKey, key_of, refuse_login, split_addresses
from r2p_dspy.engines.lm import LocalLM
from r2p_dspy.engines.weights import has_own_name, locate, option_value
from r2p_dspy.errors import ConfigError
from r2p_dspy.values.tokens import estimate_tokens

_ENGINE_OPTIONS = ("device", "dtype", "max_batch", "cache_bytes", "reasoning", "threads", "timeout")

# Common providers that LiteLLM serves. It knows the others, but takes seconds to import.
_LITELLM = frozenset(
    "azure_ai bedrock cerebras cohere databricks deepinfra fireworks_ai hosted_vllm huggingface lm_studio mistral "
    "nvidia_nim ollama ollama_chat perplexity together_ai vertex_ai watsonx".split()
)
_VLLM_SAMPLING = ("top_k", "min_p", "repetition_penalty")  # OpenAI's protocol has no such settings, so DSPy drops them
_OPENAI_CLIENTS = ("openai", "litellm_proxy")  # many servers speak their protocol; the clients refuse to send no key


def connect(
    model: str = "pocket",
    *,
    api_base: str | None = None,
    api_key: str | None = None,
    temperature: float | Literal["auto"] | None = "auto",
    max_tokens: int | None = None,
    timeout: float | Literal["auto"] | None = "auto",
    seed: int | None = None,
    cache: bool = True,
    **kwargs: Any,  # those of `dspy.LM`, which are untyped
) -> dspy.LM:
    """A language model for DSPy.

    Args:
        model: `pocket` (the embedded model), `smollm2` (after `fetch_model("smollm2")`), `hf:DIR_OR_NAME` (transformers
            in this process), `gguf:FILE` (converted for transformers at the first call), or a DSPy/LiteLLM name
            (`openai/…`, `anthropic/…`, `ollama_chat/…`, `hosted_vllm/NAME` with `api_base`; for llama.cpp's server and
            SGLang `openai/NAME` with `api_base`).
        api_base: address of a server, for served models only. Several servers of the same model have commas between
            their addresses: calls are spread over them, and those of a server that is away go to the others
            (docs/scale.md).
        api_key: the key of a served model; default: the environment's. It is never saved, and a pickle leaves it out.
            A server with an `api_base` needs none.
        temperature: between 0 and 2; 0 takes the likeliest token; None leaves it to the model. The default takes what
            the model's makers recommend where they advise against 0 (DeepSeek-R1, Qwen3, QwQ: 0.6, with their `top_p`
            and `top_k`), the model's own where it takes no other (OpenAI's reasoning models), else 0.
        max_tokens: tokens of one answer, with its thought; default: the provider's; in-process 1024.
        timeout: seconds that one call may take. On a server that is the whole call, retries and their pauses included;
            default 120. In this process it counts from where the call begins to run, not from the queue; default none.
            None is no limit.
        seed: makes drawing repeatable. In-process models always repeat; another seed gives another sample.
        cache: answer a repeated request from DSPy's cache.
        **kwargs: for in-process models `device`, `dtype`, `max_batch`, `cache_bytes`, `reasoning`, `threads` and
            `timeout` go to `TransformersEngine`, and `stop_loops=False` lets answers repeat themselves; for served
            models `prefix` and `reasoning` go to `ServedLM`; all others go to `dspy.LM`.

    Returns:
        A `dspy.LM`. Connecting to the same in-process model again takes no further memory. The name of an in-process
        model holds a fingerprint of its weights, so that the cache never answers with those of other weights.

    Raises:
        ConfigError: a value cannot be used; one line that names it and says what to do. A missing key shows at the
            first call.

    Examples:
        >>> lm = connect("openai/gpt-4o-mini", max_tokens=200)
        >>> lm.model
        'openai/gpt-4o-mini'
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else prices are fetched from the network
    if isinstance(temperature, int | float) and not 0 <= temperature <= 2:
        raise ConfigError(f"temperature must be between 0 and 2, not {temperature}")
    check_name(model, api_base)
    check_limits(model, temperature, max_tokens)
    if kwargs.get("reasoning") and api_base is None and not in_process(model):
        check_reasoning(model)
    sampling = recommended_sampling(model, kwargs) if temperature == "auto" else {"temperature": temperature}
    if temperature == 0 and family_of(model).own_temperature:
        sampling = {"temperature": None}
    if timeout != "auto":
        if timeout is not None and not timeout > 0:
            raise ConfigError(f"timeout must be above 0 seconds, not {timeout}; None is no limit")
        kwargs["timeout"] = timeout
    if seed is not None:
        kwargs["seed"] = seed
    kwargs = {**sampling, **kwargs, "max_tokens": max_tokens, "cache": cache}
    if in_process(model):
        if api_key is not None:
            raise ConfigError(f"model {model!r} runs in this process: drop api_key")
        return _local(model.removeprefix("hf:"), **kwargs)
    return _served(model, api_base, api_key, kwargs)


def check_limits(model: str, temperature: float | str | None, max_tokens: int | None) -> None:
    """Refuse a temperature or a limit that a model's API, or DSPy's client for it, would refuse at every call."""
    family = family_of(model)
    if family.own_temperature and temperature not in ("auto", None, 0, 1):
        raise ConfigError(f"model {model!r} takes no temperature but its own, which is 1: leave out {temperature}")
    if max_tokens is not None and max_tokens < family.least_tokens:
        raise ConfigError(
            f"model {model!r}: {max_tokens} tokens hold no answer, as they count its hidden thought too; set at least "
            f"{family.least_tokens}, or no limit"
        )


def in_process(model: str) -> bool:
    """Whether a model runs in this process, not on a server."""
    return has_own_name(model) or model.startswith("hf:")


def check_name(model: str, api_base: str | None = None) -> None:
    """Refuse a name or an address that `connect` refuses, without loading or calling anything."""
    refuse_address(f"model {model!r}", model)
    if api_base is not None:
        for address in split_addresses(api_base):
            refuse_login(address)
    if in_process(model):
        if api_base is not None:
            raise ConfigError(f"model {model!r} runs in this process: drop api_base, or use hosted_vllm/NAME")
        locate(model.removeprefix("hf:"))
        return
    provider, _, name = model.partition("/")
    if not (provider and name):
        raise ConfigError(
            f"model {model!r}: use pocket, smollm2, hf:DIR_OR_NAME, gguf:FILE, or PROVIDER/NAME (openai/…, "
            "anthropic/…, ollama_chat/…, hosted_vllm/NAME with an api_base)"
        )
    if not is_served(model):
        raise ConfigError(
            f"model {model!r}: DSPy knows no provider {provider!r}; to run the model in this process use hf:{model}"
        )


def refuse_address(label: str, name: str) -> None:
    """Refuse a model's name that holds an address, which LiteLLM would send texts and keys to."""
    if "://" in name:
        raise ConfigError(f"{label}: a name holds no address; give the server's address as api_base")


def context_window(lm: dspy.LM) -> int | None:
    """Tokens that a prompt and its answer may have together; None if the model is unknown."""
    for source in (lm, getattr(lm, "engine", None)):
        window: int | None = getattr(source, "context_window", None)
        if window is not None:
            return window
    return _known_window(lm.model)


@cache
def _known_window(model: str) -> int | None:
    info = model_info(model)
    window: int | None = info.get("max_input_tokens") or info.get("max_tokens")
    return window


def constrains(lm: dspy.BaseLM | None) -> Literal["grammar", "schema"] | None:
    """What `r2p_dspy.decoding.constraining` holds an LM's answers to; None where nothing does.

    "schema" is for answers in JSON alone. A server is asked what it takes; one that refused it or ignored it is not
    counted on again.

    Examples:
        >>> print(constrains(None))
        None
    """
    for source in (lm, getattr(lm, "engine", None)):
        form: Literal["grammar", "schema"] | None = getattr(source, "constrains", None)
        if form is not None:
            return form
    return None


def count_tokens(lm: dspy.BaseLM | None, text: str) -> int:
    """Tokens of a text: exact in-process and on a vLLM server, otherwise estimated from its bytes.

    The estimate errs towards too many tokens (see `r2p_dspy.values.tokens.estimate_tokens`).

    Examples:
        >>> count_tokens(None, "a storm"), count_tokens(None, "灯塔")
        (2, 3)
    """
    for source in (lm, getattr(lm, "engine", None)):
        count: Callable[[str], int | None] | None = getattr(source, "count_tokens", None)
        if count is not None and (tokens := count(text)) is not None:
            return tokens
    return math.ceil(estimate_tokens(text))


def check_reasoning(model: str) -> None:
    """Refuse native reasoning of a model that is known to have none, or to hide it."""
    if family_of(model).hides_thoughts:
        raise ConfigError(
            f"model {model!r} does not show its thoughts: leave out reasoning; with the carrier thinking, R2P asks for "
            "its stages in the text"
        )
    known = model_info(model)
    if known and not known.get("supports_reasoning"):
        raise ConfigError(f"model {model!r} does not think natively: leave out reasoning, or choose a reasoning model")


def _served(model: str, api_base: str | None, api_key: str | None, kwargs: dict[str, Any]) -> dspy.LM:
    provider = model.partition("/")[0]
    variable = f"{provider.upper()}_API_KEY"
    if api_key is not None:
        kwargs["api_key"] = ApiKey(api_key, variable=variable)
    elif api_base is not None and provider in _OPENAI_CLIENTS and not os.environ.get(variable):
        kwargs["api_key"] = key_of(variable)
    if api_base is not None:
        kwargs["api_base"] = api_base
    if provider == "hosted_vllm":
        own = {name: kwargs.pop(name) for name in _VLLM_SAMPLING if kwargs.get(name) is not None}
        if own:
            kwargs["extra_body"] = {**own, **(kwargs.get("extra_body") or {})}
    if api_base is not None and len(split_addresses(api_base)) > 1:
        from r2p_dspy.engines.served.spread import SpreadLM

        return SpreadLM(model, **kwargs)
    has_own_settings = kwargs.get("prefix") is not None or isinstance(kwargs.get("reasoning"), bool)
    if provider == "hosted_vllm" or has_own_settings or (provider == "openai" and api_base is not None):
        from r2p_dspy.engines.served.lm import ServedLM

        return ServedLM(model, **kwargs)
    from r2p_dspy.engines.served.bounded import BoundedLM

    return BoundedLM(model, **kwargs)


def _local(source: str, **kwargs: Any) -> LocalLM:
    try:
        from r2p_dspy.engines.local.async_engine import AsyncTransformersEngine
        from r2p_dspy.engines.local.engine import TransformersEngine
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"model {option_value(source)!r} runs in this process, which needs {missing.name}: pip install '.[local]'"
        ) from missing

    options = {name: kwargs.pop(name) for name in _ENGINE_OPTIONS if name in kwargs}
    if source == "pocket":
        options.setdefault("reasoning", True)
    engine = TransformersEngine.shared(source, **options)
    # No retries: a repeatable engine would fail again.
    kwargs.setdefault("num_retries", 0)
    stop_loops = bool(kwargs.pop("stop_loops", True))
    lm = LocalLM(engine.model_name, engine=engine, async_engine=AsyncTransformersEngine(engine), **kwargs)
    lm.stop_loops = stop_loops
    return lm


def is_served(model: str) -> bool:
    """Whether a name is PROVIDER/NAME with a provider that DSPy knows."""
    provider, _, name = model.partition("/")
    if not (provider and name):
        return False
    if provider in _LITELLM or is_known_provider(provider):
        return True
    if not re.fullmatch(r"[a-z0-9_-]+", provider):  # an organization on the hub, or a path
        return False
    try:
        import litellm
    except ImportError:
        return True  # cannot be checked
    return provider in {getattr(known, "value", known) for known in litellm.provider_list}
