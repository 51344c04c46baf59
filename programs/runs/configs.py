"""One frozen config for each command, resolved once from the command line's options."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import dspy

from programs.calls.patience import MAX_FAILURES
from programs.calls.usage import UsageLimits
from programs.data.dataset import DataConfig
from programs.runs.model import ModelConfig, read_settings
from programs.tasks.program import ProgramConfig, R2PConfig, resolve
from r2p_dspy import files
from r2p_dspy.engines.keys import without_credentials
from r2p_dspy.errors import ConfigError

_LIMITS = ("calls", "tokens", "usd", "minutes")


@dataclass(frozen=True)
class MeasuringConfig:
    """What `compile` and `evaluate` share.

    Args:
        program: what is compiled or measured.
        data: the examples.
        model: what the program asks.
        seed: of everything that is drawn.
        num_threads: calls in flight.
        mlflow: where MLflow keeps the run; None for nowhere.
        max_failures: the share of calls, and of a program's rows, that may fail, in [0, 1]; more end the run.
        calls: directory of the call cache; None for the command's own.
        cache: answer completed calls from the call cache, and keep new ones.
        redact: leave users' texts out of what the run keeps for readers.
    """

    program: ProgramConfig
    data: DataConfig
    model: ModelConfig
    seed: int = 0
    num_threads: int = 16
    mlflow: str | None = None
    max_failures: float = MAX_FAILURES
    calls: str | None = None
    cache: bool = True
    redact: bool = False

    def options(self) -> dict[str, Any]:
        """The options that decide the result, by name. A resumed run must have the same."""
        parts = self.program.options() | self.data.options() | _model_options(self.model, "model", "api_base")
        return {**parts, **self.model.options(), "num_threads": self.num_threads}

    def connect(self, needed: int | None = None) -> dspy.LM:
        """The model that the program asks; `needed` is the tokens that its longest answers need."""
        # A cache would hide the calls and tokens of a model in this process, and saves little there.
        return self.model.connect(cache=not self.model.in_process, carrier=self.program.r2p.carrier, needed=needed)


@dataclass(frozen=True)
class CompileConfig(MeasuringConfig):
    """What `compile` does.

    Args:
        optimizer: one of `optimizers.OPTIMIZERS`, or "none".
        reflection: the model that writes instructions.
        weights: of the score's parts, as `compiling.parse_weights` reads them.
        threshold: the task score in [0, 1] from which an answer may become a demo; None for the task's own.
        frontier: what keeps a candidate of `gepa`, see `compiling.compile_program`; None for "instance".
        tune: search R2P's settings before compiling.
        trials: number of settings that tuning measures.
        limits: the most that the run may spend.
    """

    optimizer: str = "random"
    reflection: ModelConfig | None = None
    weights: str | None = None
    threshold: float | None = None
    frontier: Literal["instance", "objective", "hybrid", "cartesian"] | None = None
    tune: bool = False
    trials: int = 24
    limits: UsageLimits = field(default_factory=UsageLimits)

    @classmethod
    def of(cls, **options: Any) -> "CompileConfig":
        """Resolve options under their names on the command line; an option that is left out has its default.

        Raises:
            ConfigError: for a limit that is not above 0.

        Examples:
            >>> CompileConfig.of(task="lamp2", k=2, max_calls=100).limits.given
            {'calls': 100}
        """
        limits = UsageLimits(**{name: options.pop(f"max_{name}", None) for name in _LIMITS})
        reflection = _model(options, "reflection_model", "reflection_api_base", temperature=1.0)
        return cls(**_parts(options, trains=True), limits=limits, reflection=reflection, **options)

    def options(self) -> dict[str, Any]:
        own = ("optimizer", "weights", "threshold", "frontier", "redact", "tune", "trials")
        reflection = _model_options(self.reflection, "reflection_model", "reflection_api_base")
        return {**super().options(), **{name: getattr(self, name) for name in own}, **reflection}


@dataclass(frozen=True)
class EvaluateConfig(MeasuringConfig):
    """What `evaluate` does.

    Args:
        controls: also measure R2P without this user's history.
        ablate: add R2P's parts in turn, and measure DSPy's own modules beside it.
        judge: a model that judges free text.
        second_judge: another one, whose agreement with the first is reported.
        only: names of the programs to measure; () for all.
        ray: the address of a Ray cluster that runs the programs, "local" for this machine alone; None for no Ray.
        ray_workers: how many workers it has; None for one for each CPU, or for each GPU that a model in process needs.
    """

    controls: bool = False
    ablate: bool = False
    only: tuple[str, ...] = ()
    judge: ModelConfig | None = None
    second_judge: ModelConfig | None = None
    ray: str | None = None
    ray_workers: int | None = None

    @classmethod
    def of(cls, **options: Any) -> "EvaluateConfig":
        """Resolve options under their names on the command line; an option that is left out has its default.

        Examples:
            >>> EvaluateConfig.of(task="lamp2", k=2).program.r2p.retriever
            'bm25'
        """
        judge = _model(options, "judge", "judge_api_base")
        second = _model(options, "second_judge", "second_judge_api_base")
        if second is not None and judge is None:
            raise ConfigError("--second-judge is compared with --judge; give both")
        if options.get("ray") is not None and options.get("mlflow") is not None:
            raise ConfigError("--mlflow keeps calls of this process, and with --ray workers make them; leave out one")
        return cls(**_parts(options), judge=judge, second_judge=second, **options)

    def options(self) -> dict[str, Any]:
        judge = _model_options(self.judge, "judge", "judge_api_base")
        given: dict[str, Any] = {"only": [*self.only]} if self.only else {}
        given |= {"redact": True} if self.redact else {}
        if self.second_judge is not None:
            given |= _model_options(self.second_judge, "second_judge", "second_judge_api_base")
        return {**super().options(), "controls": self.controls, "ablate": self.ablate, **given, **judge}

    def with_task(self, task: str, source: str | None) -> "EvaluateConfig":
        """The same evaluation of another task, whose data are at `source`."""
        r2p = resolve(self.program.explicit, self.program.artifact, task)
        return replace(self, program=replace(self.program, task=task, r2p=r2p), data=replace(self.data, source=source))

    def with_model(self, name: str, api_base: str | None) -> "EvaluateConfig":
        """The same evaluation of another model."""
        return replace(self, model=replace(self.model, name=name, api_base=api_base))

    def with_k(self, k: int) -> "EvaluateConfig":
        """The same evaluation with another number of items in a prompt."""
        r2p = self.program.r2p.model_copy(update={"k": k})
        explicit = {**self.program.explicit, "k": k}
        return replace(self, program=replace(self.program, r2p=r2p, explicit=explicit))


@dataclass(frozen=True)
class SweepConfig:
    """What `sweep` does: it evaluates every task with every model and every k.

    Args:
        base: of every cell, except for its task, model and k.
        tasks, models: in the order of the report; other models are compared with the first.
        ks: numbers of items that a prompt shows, in ascending order.
    """

    base: EvaluateConfig
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    ks: tuple[int, ...]

    @classmethod
    def of(cls, *, tasks: Any = ("lamp2",), models: Any = ("pocket",), ks: Any = (), **options: Any) -> "SweepConfig":
        """Resolve options under their names on the command line; a value that stands twice counts once.

        Args:
            tasks, models, ks: the values of `--task`, `--model` and `--k`; no k stands for the program's own.
            options: the others, as of `EvaluateConfig.of`.
        """
        base = EvaluateConfig.of(task=tasks[0], model=models[0], k=ks[0] if ks else None, **options)
        tasks, models = (tuple(dict.fromkeys(values)) for values in (tasks, models))
        return cls(base, tasks, models, tuple(sorted({*ks} or {base.program.r2p.k})))

    def options(self) -> dict[str, Any]:
        """The options that decide the result, by name. A resumed run must have the same."""
        return {**self.base.options(), "task": [*self.tasks], "model": [*self.models], "k": [*self.ks]}


@dataclass(frozen=True)
class PredictConfig:
    """What `predict` does.

    Args:
        program: what answers the rows.
        model: what the program asks.
        source: the file of rows.
        target: the file of answers.
        skip: ids of rows to leave out.
        num_threads: calls in flight.
        calls: directory of the call cache; None for one beside the answers, which is removed when they are whole.
        cache: answer completed calls from the call cache, and keep new ones.
        redact: leave reasoning, completions and quotes out of the answers' rows.
        store: address of the store of the histories of rows that name a user; None for none.
        ray: the address of a Ray cluster that answers the rows, "local" for this machine alone; None for no Ray.
        ray_workers: how many workers it has; None for one for each CPU, or for each GPU that a model in process needs.
        partition_rows: how many rows a worker answers at a time.
    """

    program: ProgramConfig
    model: ModelConfig
    source: Path
    target: Path
    skip: tuple[str, ...] = ()
    num_threads: int = 16
    calls: str | None = None
    cache: bool = True
    redact: bool = False
    store: str | None = None
    ray: str | None = None
    ray_workers: int | None = None
    partition_rows: int = 1000

    @classmethod
    def of(cls, source: str | Path, target: str | Path, **options: Any) -> "PredictConfig":
        """Resolve options under their names on the command line; an option that is left out has its default."""
        skip, parts = options.pop("skip", ()), _parts(options)
        program, model = parts["program"], parts["model"]
        return cls(program, model, Path(source), Path(target), skip=skip, **options)

    def options(self) -> dict[str, Any]:
        """The options that decide the answers, by name; others may change when a run is resumed."""
        program = {name: value for name, value in self.program.options().items() if name != "program"}
        redact = {"redact": True} if self.redact else {}
        return {**program, "model": self.model.name, **self.model.options(), **redact}


def _parts(options: dict[str, Any], trains: bool = False) -> dict[str, Any]:
    """The parts that configs share. Their options are taken out of `options`; the others stay."""
    take, seed, timeout = options.pop, options.pop("seed", 0), options.pop("timeout", None)
    settings = {name: take(name, None) for name in R2PConfig.model_fields}
    explicit = {name: value for name, value in settings.items() if value is not None}
    artifact, tokens = take("program", None), take("retriever_tokens", None)
    task = take("task")
    program = ProgramConfig(task, resolve(explicit, artifact, task), explicit, artifact, tokens, seed)
    skip, skip_bad = tuple(take("skip", ())), take("skip_bad", False)
    data = DataConfig(take("data", None), take("limit", None), seed, skip, skip_bad, trains)
    model = ModelConfig(
        take("model", "pocket"),
        take("api_base", None),
        take("temperature", None),
        seed,
        take("answer_tokens", None),
        take("adapter", None),
        take("reasoning", None),
        timeout,
        read_settings(take("lm", ())),
    )
    return {"program": program, "data": data, "model": model, "seed": seed}


def _model(options: dict[str, Any], name: str, api_base: str, temperature: float | None = None) -> ModelConfig | None:
    """The second model of a command, by the names of its options, which are taken out; None if there is none."""
    model, address = options.pop(name, None), options.pop(api_base, None)
    if model is None:
        return None
    return ModelConfig(model, address, temperature, options.get("seed", 0), timeout=options.get("timeout"))


def _model_options(model: ModelConfig | None, name: str, api_base: str) -> dict[str, Any]:
    address = model and model.api_base
    return {name: model and model.name, api_base: address and without_credentials(address)}


def digest(path: str | None) -> str | None:
    """Sixteen hex digits of a file's contents, or of the program in a run's directory; None if there is no file."""
    file = None if path is None else Path(path)
    file = file / "program.json" if file is not None and file.is_dir() else file
    return files.digest(file) if file is not None and file.is_file() else None
