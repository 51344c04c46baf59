"""What an experiment is asked for on the command line."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dspy

from programs.calls.usage import UsageLimits
from r2p_dspy import connect, files
from r2p_dspy.engines.connect import in_process
from r2p_dspy.errors import ConfigError
from r2p_dspy.modules.voting import Reconcile
from r2p_dspy.prompting.signature import Carrier

# Options that change no result, and may be others when a run is resumed.
_ASIDE = ("max_calls", "max_tokens", "max_usd", "max_minutes", "calls", "cache", "mlflow")


@dataclass(frozen=True)
class ModelConfig:
    """Which language model a command asks, and how.

    Args:
        name: as `r2p_dspy.connect` takes it.
        api_base: address of a served model.
        temperature: in [0, 2]; 0 takes the likeliest token.
        seed: makes drawing repeatable.

    Example:
        >>> ModelConfig("openai/gpt-4o-mini").connect(cache=False).model
        'openai/gpt-4o-mini'
    """

    name: str = "pocket"
    api_base: str | None = None
    temperature: float = 0.0
    seed: int = 0

    def connect(self, *, cache: bool, **settings: Any) -> dspy.LM:
        """The language model, as every command uses it.

        Args:
            cache: whether answers may come from DSPy's cache.
            settings: others that `r2p_dspy.connect` takes.

        Raises:
            ConfigError: one line on what is wrong with the model's name or address.
        """
        if self.name == "pocket":  # what it ever has to say is shorter; long answers are cut off
            settings.setdefault("max_tokens", 256)
        how = {"temperature": self.temperature, "seed": self.seed, "cache": cache}
        return connect(self.name, api_base=self.api_base, **(how | settings))


@dataclass(frozen=True)
class Options:
    """What an experiment is asked for; see the command line's help for each.

    A setting of R2P (see `settings.R2PConfig`) that is None is the compiled program's own, or the default.
    """

    task: str
    data: str | None = None
    model: str = "pocket"
    api_base: str | None = None
    retriever: str | None = None
    k: int | None = None
    candidates: int | None = None
    reconcile: Reconcile | None = None
    adaptive: bool | None = None
    template: str | None = None
    carrier: Carrier | None = None
    retriever_tokens: int | None = None
    skip: tuple[str, ...] = ()
    skip_bad: bool = False
    limit: int | None = None
    seed: int = 0
    num_threads: int = 16
    temperature: float = 0.0
    optimizer: str = "random"
    tune: bool = False
    trials: int = 24
    redact: bool = False
    program: str | None = None
    controls: bool = False
    ablate: bool = False
    reflection_model: str | None = None
    reflection_api_base: str | None = None
    weights: str | None = None
    threshold: float | None = None
    judge: str | None = None
    judge_api_base: str | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    max_usd: float | None = None
    max_minutes: float | None = None
    calls: str | None = None
    cache: bool = True
    mlflow: str | None = None

    @property
    def budget(self) -> UsageLimits:
        """What may be spent at most.

        Raises:
            ValueError: for a limit that is not above 0.
        """
        return UsageLimits(self.max_calls, self.max_tokens, self.max_usd, self.max_minutes)

    def asked(self) -> dict[str, Any]:
        """What makes the run what it is, for its config; what changes no result may be another when it is resumed."""
        return {name: value for name, value in asdict(self).items() if name not in _ASIDE}

    def connect(self, cache: bool) -> dspy.LM:
        """The language model that is asked for, as every command uses it.

        Args:
            cache: whether answers may come from DSPy's cache.

        Raises:
            ValueError: one line on what is wrong with the model's name or address.
        """
        thinks: dict[str, Any] = {"reasoning": True} if self.carrier == "thinking" and in_process(self.model) else {}
        settings = {"temperature": self.temperature, "seed": self.seed, "cache": cache}
        return connected(self.model, self.api_base, **settings, **thinks)

    def reflect(self) -> dspy.LM | None:
        """The model that writes instructions, once it has answered; None where none is asked for.

        Raises:
            ValueError: one line, for the pocket model, and for a model that cannot be reached.
        """
        if self.reflection_model is None:
            return None
        if self.reflection_model == "pocket":
            raise ConfigError("the pocket model cannot write instructions: give --reflection-model a larger one")
        lm = connect(self.reflection_model, api_base=self.reflection_api_base, temperature=1.0, seed=self.seed)
        try:
            lm.copy(cache=False)("Answer with the word: yes")
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"the reflection model {self.reflection_model} cannot be reached ({reason}); check its key in the "
                "environment, --reflection-model and --reflection-api-base"
            ) from error
        return lm


def connected(model: str, api_base: str | None = None, **settings: Any) -> dspy.LM:
    """A language model as every command uses it; arguments as of `r2p_dspy.connect`."""
    # What the pocket model ever has to say is shorter; one that babbles is to be cut off soon.
    return connect(model, api_base=api_base, max_tokens=256 if model == "pocket" else None, **settings)


def digest(path: str | None) -> str | None:
    """A file's contents in sixteen digits, of a directory those of its program; None where no such file is."""
    file = None if path is None else Path(path)
    file = file / "program.json" if file is not None and file.is_dir() else file
    return files.digest(file) if file is not None and file.is_file() else None
