"""The config of a fine-tuning: its parts, and how the command's options become one.

The command line imports this module when it starts, so nothing here imports DSPy or torch until a config is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from programs.data.dataset import DataConfig
    from programs.runs.model import ModelConfig
    from programs.tasks.program import R2PConfig
    from r2p_dspy.prompting.signature import Carrier

Method = Literal["sft", "grpo", "sft+grpo"]
Traces = Literal["sample", "rationalize"]
STUDENT = Path(__file__).parent / "student"
METHOD: Method = "sft+grpo"
CANDIDATES, USERS = 5, 400
# Options that a resumed run may change.
_FREE = ("num_threads", "calls", "cache", "timeout", "max_failures", "ray", "ray_workers")
_SMALL = 50_000_000  # parameters
_REQUIRED = ("torch", "transformers", "trl", "datasets", "peft", "accelerate")
# Options that earlier versions lack: with these values they are not recorded, so runs of those versions can be resumed.
_LATER = {"redact": False, "traces": "sample", "rounds": 1, "mask_forced": None, "history": None}


@dataclass(frozen=True)
class SFTConfig:
    """Settings of supervised fine-tuning.

    Args:
        epochs: passes over the rows.
        batch: rows per step, shared by the processes of `accelerate launch`.
        accumulate: batches whose gradients are summed before a step.
        rate: the learning rate; None chooses by size: 1e-3 below 50 million parameters, else 1e-5; with LoRA ten times
            as much for the larger ones.
        warmup: steps in which the learning rate rises.
        every: steps between checkpoints, and between evaluations on dev.
        patience: evaluations without an improvement after which training stops.
        lora: rank of the adapter to train; 0 trains all weights.
        seed: seeds everything that is drawn.
        mask_forced: leave what the form of an answer forces out of the loss.
    """

    epochs: float = 2.0
    batch: int = 32
    accumulate: int = 1
    rate: float | None = None
    warmup: int = 10
    every: int = 25
    patience: int = 4
    lora: int = 0
    seed: int = 0
    mask_forced: bool = False


@dataclass(frozen=True)
class GRPOConfig:
    """Settings of reinforcement learning by GRPO.

    Args:
        steps: steps of the optimizer.
        prompts: prompts per step over all devices; each is answered `generations` times.
        generations: answers to one prompt that are compared with one another.
        tokens: length limit of an answer.
        rate: the learning rate; None chooses by size: 2e-4 below 50 million parameters, else 1e-6; with LoRA ten times
            as much for the larger ones.
        temperature: sampling temperature of the answers.
        every, patience, lora, seed: see `SFTConfig`.
        vllm: TRL's vLLM mode, "colocate" or "server"; None generates with transformers.
        constrain: hold answers to the grammar of their prompts, and leave forced tokens out of the loss.
        correct: correct answers while they are written, and leave the corrections out of the loss.
        options: other options of `trl.GRPOConfig` by name; they override everything above.
    """

    steps: int = 100
    prompts: int = 4
    generations: int = 8
    tokens: int = 128
    rate: float | None = None
    temperature: float = 1.0
    every: int = 25
    patience: int = 4
    lora: int = 0
    seed: int = 0
    vllm: str | None = None
    constrain: bool = False
    correct: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FinetuneConfig:
    """The config of one fine-tuning.

    Args:
        tasks: names or files of the tasks that the student learns.
        method: which trainings run.
        student: a model directory, a hub name, `pocket`, `smollm2` or `gguf:FILE`.
        carrier: what the student reasons in; None takes thinking where its chat template supports it, else fields.
        tokens: length limit of the student's answers.
        teacher: the teacher's language model.
        program: file of the teacher's compiled program; None takes the uncompiled one.
        traces: whether the teacher answers by itself ("sample"), or reasons towards the known answers ("rationalize").
        rounds: how often traces and SFT follow each other; from the second on the student is its own teacher.
        r2p: how the teacher's R2P is set up.
        retriever_tokens: tokens that the retrieved items may take together; None sets no limit.
        data: which examples are learned from and reported.
        sft: settings of the first training.
        grpo: settings of the second training.
        num_threads: calls in flight.
        calls: directory of the call cache; None for one in the run's directory, until the run is finished.
        cache: keep the teacher's completed calls.
        redact: leave users' texts out of what the run keeps for readers; traces hold them all the same.
        options: the command's options, as the run's `config.json` records them.
        max_failures: the share of the teacher's calls, and of a task's rows, that may fail, in [0, 1].
        ray: the address of a Ray cluster that collects the teacher's traces, "local" for this machine alone; None for
            no Ray.
        ray_workers: how many workers it has; None for one for each CPU, or for each GPU that a model in process needs.
    """

    tasks: tuple[str, ...]
    method: Method
    student: str
    carrier: Carrier | None
    tokens: int
    teacher: ModelConfig
    program: str | None
    traces: Traces
    rounds: int
    r2p: R2PConfig
    retriever_tokens: int | None
    data: DataConfig
    sft: SFTConfig
    grpo: GRPOConfig
    num_threads: int
    options: Mapping[str, Any]
    calls: str | None = None
    cache: bool = True
    redact: bool = False
    max_failures: float = 0.05  # as everywhere (`programs.calls.patience`, which imports DSPy)
    ray: str | None = None
    ray_workers: int | None = None

    @classmethod
    def of(cls, **options: Any) -> FinetuneConfig:
        """Resolve options under their names on the command line; an option that is left out, or None, has its default.

        Raises:
            ConfigError: for values that cannot be used.
            ArtifactError: for a program file that cannot be read.

        Examples:
            >>> FinetuneConfig.of(tasks=["lamp3"], steps=8).grpo.steps
            8
        """
        from programs.data.dataset import DataConfig
        from programs.runs.model import ModelConfig, read_settings
        from programs.tasks.program import resolve
        from r2p_dspy.engines.keys import without_credentials

        given = {name: value for name, value in options.items() if value is not None}
        defaults: dict[str, Any] = {
            "method": METHOD,
            "candidates": CANDIDATES,
            "users": USERS,
            "num_threads": 16,
            "lora": 0,
            "traces": "sample",
            "rounds": 1,
        }
        defaults |= {"tasks": ("lamp2",), "student": str(STUDENT), "tokens": GRPOConfig.tokens}
        given = {**defaults, **given, "grpo": read_options(given.get("grpo", ()))}
        tasks, method, program = tuple(given["tasks"]), given["method"], given.get("program")
        _check(method, tasks, program, given.get("limit"), given["rounds"], given.get("ray"))

        def part(*same: str, **renamed: str) -> dict[str, Any]:
            """The given options of a part, by the names of its fields."""
            names = {name: name for name in same} | renamed
            return {field: given[name] for field, name in names.items() if name in given}

        shared = part("every", "patience", "lora", "seed")
        trl_options = part("steps", "prompts", "generations", "tokens", "vllm", rate="rl_learning_rate", options="grpo")
        trl_options |= part(constrain="constrain_rollouts", correct="correct_rollouts")
        recorded = {name: value for name, value in {**options, **given}.items() if name not in _FREE}
        for name, default in _LATER.items():
            if recorded.get(name, default) == default:
                recorded.pop(name, None)
        if recorded.get("api_base"):
            recorded["api_base"] = without_credentials(recorded["api_base"])
        return cls(
            tasks=tasks,
            method=method,
            student=given["student"],
            carrier=given.get("carrier"),
            tokens=given["tokens"],
            teacher=ModelConfig(
                **part("api_base", "seed", "answer_tokens", "adapter", "reasoning", "timeout", name="model"),
                settings=read_settings(given.get("lm", ())),
            ),
            program=program,
            traces=given["traces"],
            rounds=given["rounds"],
            r2p=resolve(part("retriever", "k", "candidates", "template", "history"), program, *tasks),
            retriever_tokens=given.get("retriever_tokens"),
            data=DataConfig(**part("limit", "seed", "skip_bad", source="data"), trains=True, train=given["users"]),
            sft=SFTConfig(**part("epochs", "batch", "mask_forced", rate="learning_rate"), **shared),
            grpo=GRPOConfig(**trl_options, **shared),
            num_threads=given["num_threads"],
            options=recorded,
            **part("calls", "cache", "max_failures", "redact", "ray", "ray_workers"),
        )

    @property
    def runs_sft(self) -> bool:
        """Whether the student learns from the teacher's traces."""
        return self.method != "grpo"

    @property
    def runs_grpo(self) -> bool:
        """Whether the student learns from rewards."""
        return self.method != "sft"


def learning_rate(config: SFTConfig | GRPOConfig, parameters: int) -> float:
    """The learning rate of a training for a student of this many parameters.

    Examples:
        >>> learning_rate(SFTConfig(), 3_000_000), learning_rate(GRPOConfig(rate=3e-4), 1)
        (0.001, 0.0003)
    """
    if config.rate is not None:
        return config.rate
    small, large = (1e-3, 1e-5) if isinstance(config, SFTConfig) else (2e-4, 1e-6)
    return (small if parameters < _SMALL else large) * (10 if config.lora and parameters >= _SMALL else 1)


def read_options(texts: Iterable[str]) -> dict[str, Any]:
    """Parse `KEY=VALUE` texts; a value is JSON, or else plain text.

    Raises:
        ConfigError: for a text without a key or `=`.

    Examples:
        >>> read_options(["beta=0.04", "loss_type=dr_grpo"])
        {'beta': 0.04, 'loss_type': 'dr_grpo'}
    """
    from r2p_dspy.errors import ConfigError

    options: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"--grpo takes KEY=VALUE, such as beta=0.04, not {text!r}")
        try:
            options[name.strip()] = json.loads(value)
        except ValueError:
            options[name.strip()] = value
    return options


def check_installed() -> None:
    """Raise a ConfigError that names missing packages and how to install them."""
    from r2p_dspy.errors import ConfigError

    if missing := [name for name in _REQUIRED if find_spec(name) is None]:
        raise ConfigError(f"training needs {', '.join(missing)}: pip install '.[local,cli,train]'")


def _check(
    method: str, tasks: tuple[str, ...], program: str | None, limit: int | None, rounds: int, ray: str | None
) -> None:
    """Refuse options that do not fit together."""
    from r2p_dspy.errors import ConfigError

    if method not in get_args(Method):
        raise ConfigError(f"unknown method {method!r}; the methods are {', '.join(get_args(Method))}")
    if len(set(tasks)) < len(tasks) or not tasks:
        raise ConfigError("give each --task once")
    if program is not None and len(tasks) > 1:
        raise ConfigError("--program belongs to one task; leave it out with several --task")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be at least 1, not {limit}")
    if rounds > 1 and method == "grpo":
        raise ConfigError("--rounds repeats traces and SFT, which --method grpo leaves out; take sft or sft+grpo")
    if ray is not None and method == "grpo":
        raise ConfigError("--ray collects traces, which --method grpo leaves out; take sft or sft+grpo")
