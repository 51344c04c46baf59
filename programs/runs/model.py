"""Which language model a command asks, and how: resolved from the options that all commands share."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.adapters import Adapter
from dspy.adapters.baml_adapter import BAMLAdapter

from r2p_dspy import active_adapter, connect
from r2p_dspy.dspy_internals import model_info
from r2p_dspy.engines.connect import context_window, in_process
from r2p_dspy.engines.families import family_of, recommended_sampling
from r2p_dspy.engines.keys import without_credentials
from r2p_dspy.errors import ConfigError
from r2p_dspy.prompting.signature import Carrier

ADAPTERS: dict[str, type[Adapter]] = {
    "chat": dspy.ChatAdapter,
    "json": dspy.JSONAdapter,
    "xml": dspy.XMLAdapter,
    "baml": BAMLAdapter,
}
_POCKET_TOKENS = 256  # its answers are shorter; long answers are cut off
_THINKING_TOKENS = 16_000  # of a thought and the answer after it
_OWN_OPTIONS = {  # settings of `connect` that have options of their own
    "model": "--model",
    "api_base": "--api-base",
    "base_url": "--api-base",
    "temperature": "--temperature",
    "max_tokens": "--answer-tokens",
    "max_completion_tokens": "--answer-tokens",
    "seed": "--seed",
    "reasoning": "--reasoning",
    "adapter": "--adapter",
    "cache": "--no-cache",
    "timeout": "--timeout",
}
_SECRET = re.compile(
    r"api[-_]?key|access[-_]?key|secret|passw|credential|authorization|(?:^|[-_])token$", re.IGNORECASE
)


@dataclass(frozen=True)
class ModelConfig:
    """Which language model a command asks, and how.

    Args:
        name: as `r2p_dspy.connect` takes it.
        api_base: address of a served model.
        temperature: in [0, 2]; 0 takes the likeliest token; None takes what the model's makers recommend, else 0.
        seed: makes drawing repeatable.
        answer_tokens: limit of an answer with its thought, in tokens; None takes one that fits the task's answers.
        adapter: one of `ADAPTERS`; None takes DSPy's configured one.
        reasoning: whether the model thinks natively, and shows its thoughts; None takes what is known of it.
        timeout: seconds that one call may take; None for `connect`'s own default.
        settings: others that `r2p_dspy.connect` takes; they hold no key.

    Examples:
        >>> ModelConfig("openai/gpt-4o-mini").connect(cache=False).model
        'openai/gpt-4o-mini'
    """

    name: str = "pocket"
    api_base: str | None = None
    temperature: float | None = None
    seed: int = 0
    answer_tokens: int | None = None
    adapter: str | None = None
    reasoning: bool | None = None
    timeout: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def in_process(self) -> bool:
        """Whether the model runs in this process, and is not served."""
        return in_process(self.name)

    @property
    def used_temperature(self) -> float | None:
        """The temperature of its calls; None where the model takes none but its own."""
        if self.temperature is not None and not family_of(self.name).own_temperature:
            return self.temperature
        temperature: float | None = recommended_sampling(self.name, self._given())["temperature"]
        return temperature

    def options(self) -> dict[str, Any]:
        """What decides its answers beside its name, under the names of the options."""
        return {
            "temperature": self.used_temperature,
            "answer_tokens": self.answer_tokens,
            "adapter": self.adapter,
            "reasoning": self.reasoning,
            "lm_settings": dict(self.settings) or None,
        }

    def connect(
        self, *, cache: bool, carrier: Carrier = "fields", needed: int | None = None, **settings: Any
    ) -> dspy.LM:
        """The language model, as every command uses it.

        Args:
            cache: whether answers may come from DSPy's cache.
            carrier: of R2P's stages; with `thinking`, a model that can show its thoughts thinks before it answers.
            needed: tokens that its longest answers need; None leaves the limit to the model.
            settings: others that `r2p_dspy.connect` takes.

        Raises:
            ConfigError: one line on what is wrong with the model's name, its address or a setting.
        """
        reasoning = self._shows_thoughts(carrier)
        how: dict[str, Any] = {**self._given(), "seed": self.seed, "cache": cache}
        if self.temperature is not None:
            how["temperature"] = self.temperature
        if reasoning is not None:
            how["reasoning"] = reasoning
        if self.timeout is not None:
            how["timeout"] = self.timeout
        how.setdefault("max_tokens", self.answer_limit(needed, thinks=carrier == "thinking"))
        try:
            lm = connect(self.name, api_base=self.api_base, **(how | settings))
        except ConfigError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(f"--lm has a value that DSPy refuses: {' '.join(str(error).split())[:200]}") from error
        return lm if self.answer_tokens is not None else self._within_context(lm)

    def answer_limit(self, needed: int | None, *, thinks: bool = False) -> int | None:
        """The most tokens of an answer whose task needs `needed`: as given, and more for a thought; None for no limit.

        Examples:
            >>> ModelConfig("openai/gpt-4o").answer_limit(500), ModelConfig("openai/o3").answer_limit(500)
            (500, 16000)
        """
        if self.answer_tokens is not None:
            return self.answer_tokens
        if self.name == "pocket":
            return _POCKET_TOKENS
        if needed is None:
            return None
        family = family_of(self.name)
        thinks = thinks or bool(self.reasoning) or family.thinks or bool(_known(self.name).get("supports_reasoning"))
        return max(needed, _THINKING_TOKENS) if thinks else needed

    def asking(self, lm: dspy.LM) -> Any:
        """A context of DSPy in which programs ask `lm` with this config's adapter."""
        if self.adapter is None:
            return dspy.context(lm=lm)
        if self.adapter not in ADAPTERS:
            raise ConfigError(f"unknown adapter {self.adapter!r}; the adapters are {', '.join(ADAPTERS)}")
        return dspy.context(lm=lm, adapter=ADAPTERS[self.adapter]())

    def _given(self) -> dict[str, Any]:
        own = {} if self.reasoning is None else {"reasoning": self.reasoning}
        return {**self.settings, **own}

    def _shows_thoughts(self, carrier: Carrier) -> bool | None:
        """Whether thoughts are asked for natively; None leaves it to what DSPy knows of the model."""
        if self.reasoning is not None or carrier != "thinking":
            return self.reasoning
        known, family = _known(self.name), family_of(self.name)
        if self.in_process:
            return True
        if family.hides_thoughts or (known and not known.get("supports_reasoning")):
            return None
        return True if family.thinks or self.api_base or self.name.startswith("hosted_vllm/") else None

    def _within_context(self, lm: dspy.LM) -> dspy.LM:
        """The model with a limit that leaves half of its context to the prompt; servers refuse what does not fit."""
        limit: int | None = lm.kwargs.get("max_tokens")
        if limit is None or self.in_process:
            return lm
        window = context_window(lm)
        if window is None:
            # A thought may take all that an unknown server has; it knows its own limit best.
            return lm.copy(max_tokens=None) if limit >= _THINKING_TOKENS else lm
        most = min(window // 2, _known(self.name).get("max_output_tokens") or window)
        return lm if limit <= most else lm.copy(max_tokens=most)


def lm_settings(lm: dspy.LM, adapter: str | None = None) -> dict[str, Any]:
    """How a language model is asked, as reports tell it: its sampling, its limit, its adapter; never its key."""
    told = {name: value for name, value in lm.kwargs.items() if value is not None and name != "api_key"}
    told |= {name: without_credentials(told[name]) for name in ("api_base", "base_url") if name in told}
    active = type(active_adapter())
    name = next((name for name, kind in ADAPTERS.items() if kind is active), active.__name__)
    return {**told, "adapter": adapter or name, "reasoning": bool(lm.supports_reasoning)}


def read_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """The settings of `--lm KEY=VALUE`: a dot in a key nests, and a value that is JSON is read as JSON.

    Raises:
        ConfigError: one line, for a pair without `=`, an empty or repeated key, a key that has an option of its own,
            and secrets, which the environment holds.

    Examples:
        >>> read_settings(["top_p=0.9", "extra_body.chat_template_kwargs.enable_thinking=false"])
        {'top_p': 0.9, 'extra_body': {'chat_template_kwargs': {'enable_thinking': False}}}
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        *outer, last = key.strip().split(".")
        if not (equals and last and all(outer)):
            raise ConfigError(f"--lm {pair!r}: write KEY=VALUE, such as --lm top_p=0.9")
        value = _json_or_text(text)
        _check_key(key.strip(), value)
        inner: Any = settings
        for name in outer:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"--lm {pair!r}: {name} has a value already; give it once, as JSON")
        if last in inner:
            raise ConfigError(f"--lm {pair!r}: {key.strip()} has a value already; give it once")
        inner[last] = value
    return settings


def _check_key(key: str, value: Any) -> None:
    if any(_SECRET.search(name) for name in (*key.split("."), *_keys(value))):
        raise ConfigError(
            f"--lm {key}: a run's files would hold the secret; set it in the environment, such as OPENAI_API_KEY"
        )
    if key in _OWN_OPTIONS:
        raise ConfigError(f"--lm {key} has an option of its own: use {_OWN_OPTIONS[key]}")


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _known(model: str) -> Mapping[str, Any]:
    """What DSPy's table says of a served model; empty if it does not know it."""
    return {} if in_process(model) else model_info(model)
