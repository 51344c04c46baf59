"""R2P's settings for a task: resolved from options and a compiled program, and the programs that they make."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from programs.tasks.retrievers import MODEL_FREE, RETRIEVERS, default_retriever, retriever
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from r2p_dspy import R2P, ArtifactError, Retriever, load_program, read_artifact
from r2p_dspy.decoding.constraining import Constrain
from r2p_dspy.errors import ConfigError
from r2p_dspy.modules.voting import Reconcile
from r2p_dspy.prompting.signature import Carrier
from r2p_dspy.template import WITH_PLAIN

History = Literal["list", "turns"]


class R2PConfig(BaseModel):
    """How R2P is set up for a task. Names and defaults are those of the command line.

    Args:
        retriever: one of `retrievers.RETRIEVERS`.
        k: number of items that a prompt shows, at least 0.
        candidates, reconcile, adaptive: see `R2P`; 1 to 100 candidates.
        template: one of `r2p_dspy.template.WITH_PLAIN`.
        carrier: see `R2P`.
        history: whether items are shown as a "list", or as "turns" of the conversation (see `R2P`).
        constrain: see `R2P`.
        on_unmet: see `R2P`. It decides what `predict` does; measuring and compiling record unmet asserts.
        own_temperature: of the program's calls, in [0, 2], in place of the model's; None for the model's.

    Examples:
        >>> str(R2PConfig(k=2, candidates=3, adaptive=True))
        'bm25 k=2 full fields, up to 3 candidates (auto)'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    retriever: str = "bm25"
    k: Annotated[int, Field(ge=0)] = 4
    candidates: Annotated[int, Field(ge=1, le=100)] = 1
    reconcile: Reconcile = "auto"
    adaptive: bool = False
    template: str = "full"
    carrier: Carrier = "fields"
    history: History = "list"
    constrain: Constrain = "auto"
    on_unmet: Literal["raise", "return"] = "return"
    own_temperature: Annotated[float, Field(ge=0, le=2)] | None = None

    @property
    def reasons(self) -> bool:
        """Whether the template has stages."""
        return bool(WITH_PLAIN[self.template].stages)

    def __str__(self) -> str:
        """The settings in words. Settings that make the same program have the same words."""
        k = "" if self.retriever == "all" else f" k={self.k}"
        constrained = "" if self.constrain == "auto" else f" constrain={self.constrain}"
        sampled = "" if self.own_temperature is None else f" temperature={self.own_temperature:g}"
        turns = " turns" if self.history == "turns" else ""
        words = f"{self.retriever}{k}{turns} {self.template} {self.carrier}{constrained}{sampled}"
        if self.candidates == 1:
            return words
        return f"{words}, {'up to ' * self.adaptive}{self.candidates} candidates ({self.reconcile})"

    @classmethod
    def of(cls, path: str | Path, retriever: str | None = None) -> "R2PConfig":
        """The settings that a compiled program was saved with; a setting that its file lacks has its default.

        The file may be a stranger's, so it cannot choose a retriever that loads a model or calls a server: that one is
        taken from the user alone.

        Args:
            path: the compiled program's file.
            retriever: the retriever that the user names; None for the file's.

        Raises:
            ArtifactError: for a file that is no compiled program, has settings that cannot be used, or names a
                retriever that the user has to name.
        """
        settings = read_artifact(path).settings
        try:
            saved = cls.model_validate(settings)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ("settings", *first["loc"])))
            raise ArtifactError(
                f"{path} cannot be built here: {where}: {first['msg']}; update r2p-dspy, or compile it again"
            ) from None
        if saved.template not in WITH_PLAIN:
            raise ArtifactError(
                f"{path} has an unknown template {saved.template[:80]!r}; the templates are {', '.join(WITH_PLAIN)}"
            )
        if retriever is not None:
            return saved.model_copy(update={"retriever": retriever})
        if saved.retriever not in MODEL_FREE:
            if not saved.retriever.startswith(("dense:", "hybrid:")):
                raise ArtifactError(
                    f"{path} has an unknown retriever {saved.retriever[:80]!r}; name one with --retriever: "
                    f"{', '.join(RETRIEVERS)}"
                )
            raise ArtifactError(
                f"{path} was compiled with the retriever {saved.retriever[:80]!r}, which uses an embedding model that "
                "no file may choose; name it yourself with --retriever if you trust it, or choose --retriever bm25"
            )
        return saved


def resolve(explicit: Mapping[str, Any], artifact: str | Path | None = None, *tasks: str) -> R2PConfig:
    """R2P's settings: those given explicitly (not None), else those of a compiled program, else the defaults.

    The default template is that of the tasks (names or task files) where they agree.

    Raises:
        ArtifactError: see `R2PConfig.of`.
        TaskError: see `task_of`.

    Examples:
        >>> settings = resolve({"k": 2, "template": None})
        >>> settings.k, settings.template
        (2, 'full')
        >>> resolve({}, None, "longlamp-topic").template
        'outline'
    """
    if artifact is not None:
        saved = R2PConfig.of(artifact, explicit.get("retriever"))
    else:
        saved = default_settings(*map(task_of, tasks))
    return saved.model_copy(update={name: value for name, value in explicit.items() if value is not None})


def default_settings(*tasks: Task) -> R2PConfig:
    """The settings of uncompiled programs of tasks: a task with long answers has a template of its own.

    Tasks that do not agree on a template have the full one.
    """
    templates = {task.template for task in tasks}
    return R2PConfig(template=templates.pop()) if len(templates) == 1 else R2PConfig()


@dataclass(frozen=True)
class ProgramConfig:
    """Which R2P program a command runs.

    Args:
        task: a task's name, or the path of a task file.
        r2p: how R2P is set up, see `resolve`.
        explicit: the settings that the user gave, by name. `--tune` does not search these.
        artifact: the compiled program's file; None for the uncompiled program.
        retriever_tokens: limit on the tokens of all retrieved items together; None for no limit.
        seed: of the retriever `random`.
    """

    task: str
    r2p: R2PConfig = field(default_factory=R2PConfig)
    explicit: Mapping[str, Any] = field(default_factory=dict)
    artifact: str | None = None
    retriever_tokens: int | None = None
    seed: int = 0

    def options(self) -> dict[str, Any]:
        """These values under the names of their options, as a run's `config.json` keeps them."""
        own = {"task": self.task, "program": self.artifact, "retriever_tokens": self.retriever_tokens}
        return {**own, **self.r2p.model_dump(), "seed": self.seed}


class ProgramBuilder:
    """Builds a task's R2P programs. A retriever may hold weights and embeddings, so programs share it.

    Args:
        task: what the programs do.
        config: the seed and the token limit of retrievers, and the compiled program of `load`.
    """

    def __init__(self, task: Task, config: ProgramConfig):
        self.task, self.config = task, config
        self._retrievers: dict[tuple[str, int], Any] = {}

    def build(self, settings: R2PConfig) -> R2P:
        """The uncompiled program with these settings."""
        key, config = (settings.retriever, settings.k), self.config
        tokens, shared = config.retriever_tokens, self._retrievers.get(key)
        program = build(self.task, settings, seed=config.seed, tokens=tokens, items=shared)
        self._retrievers.setdefault(key, program.retriever)
        return program

    def load(self) -> R2P:
        """The program of the config, with what was compiled, if a compiled program is named."""
        program = self.build(self.config.r2p)
        if self.config.artifact is not None:
            load_program(program, self.config.artifact, task=self.task.name)
        return program


def r2p(task: Task, retriever: Retriever | None = None, carrier: Carrier = "fields", **parts: Any) -> R2P:
    """The task's uncompiled R2P program; `parts` are further arguments of `R2P`, such as `candidates`."""
    retriever = retriever or default_retriever(task)
    return R2P(
        task.signature, retriever=retriever, checks=task.checks, carrier=carrier, quotable=task.quotable, **parts
    )


def build(
    task: Task, settings: R2PConfig, *, seed: int = 0, tokens: int | None = None, items: Retriever | None = None
) -> R2P:
    """The task's uncompiled R2P program with these settings.

    Args:
        task: what the program does.
        settings: how R2P is set up.
        seed: of the retriever `random`.
        tokens: limit on the tokens of all retrieved items together; None for no limit.
        items: the retriever, if it exists already.

    Raises:
        ConfigError: one line, for a setting that cannot be used.

    Examples:
        >>> from programs.tasks.lamp2 import TASK
        >>> build(TASK, R2PConfig(template="brief")).reason.template.leaves()[0].name
        'evidence'
    """
    if settings.template not in WITH_PLAIN:
        raise ConfigError(f"unknown template {settings.template!r}; the templates are {', '.join(WITH_PLAIN)}")
    if settings.history == "turns" and not task.turns:
        raise ConfigError(
            f"an item of {task.name} is no input that the user answered; take --history list, or, in a task of your "
            "own, name the field that the user answered (asked)"
        )
    return r2p(
        task,
        items or retriever(task, settings.retriever, k=settings.k, seed=seed, tokens=tokens),
        settings.carrier,
        template=WITH_PLAIN[settings.template],
        candidates=settings.candidates,
        reconcile=settings.reconcile,
        adaptive=settings.adaptive,
        constrain=settings.constrain,
        turns=task.turns if settings.history == "turns" else None,
        on_unmet=settings.on_unmet,
        **({} if settings.own_temperature is None else {"temperature": settings.own_temperature}),
    )
