"""R2P's knobs by name: as options give them, as `--tune` searches them, as artifacts keep them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from programs.tasks.retrievers import default_retriever, retriever
from programs.tasks.task import Task
from r2p_dspy import R2P, ArtifactError, Retriever, read_artifact
from r2p_dspy.errors import ConfigError
from r2p_dspy.modules.voting import Reconcile
from r2p_dspy.prompting.signature import Carrier
from r2p_dspy.template import TEMPLATES

if TYPE_CHECKING:
    from programs.runs.configs import Options


class R2PConfig(BaseModel):
    """How R2P is set up for a task; the names are those of the command line, the values its defaults.

    Args:
        retriever: one of `retrievers.RETRIEVERS`.
        k: items that a prompt shows.
        candidates, reconcile, adaptive: as of `R2P`.
        template: one of `r2p_dspy.template.TEMPLATES`.
        carrier: as of `R2P`.

    Example:
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

    def __str__(self) -> str:
        """In words; the same for settings that come to the same program."""
        k = "" if self.retriever == "all" else f" k={self.k}"
        words = f"{self.retriever}{k} {self.template} {self.carrier}"
        if self.candidates == 1:
            return words
        return f"{words}, {'up to ' * self.adaptive}{self.candidates} candidates ({self.reconcile})"

    @classmethod
    def of(cls, path: str | Path) -> "R2PConfig":
        """Those that a compiled program was saved with; the default of what its file does not name.

        Raises:
            ArtifactError: for a file that is no program, and settings that cannot be.
        """
        try:
            return cls.model_validate(read_artifact(path).settings)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ("settings", *first["loc"])))
            raise ArtifactError(
                f"{path} cannot be built here: {where}: {first['msg']}; update r2p-dspy, or compile it again"
            ) from None


def given(options: "Options") -> dict[str, object]:
    """The settings that were asked for, by name."""
    asked = {name: getattr(options, name) for name in R2PConfig.model_fields}
    return {name: value for name, value in asked.items() if value is not None}


def resolved(options: "Options") -> tuple["Options", R2PConfig]:
    """The options with every setting: as given, else as the program's file has it, else the default.

    Raises:
        ArtifactError: see `R2PConfig.of`.

    Example:
        >>> from programs.runs.configs import Options
        >>> resolved(Options(task="lamp2", k=2))[0].retriever
        'bm25'
    """
    saved = R2PConfig() if options.program is None else R2PConfig.of(options.program)
    settings = saved.model_copy(update=given(options))
    return replace(options, **settings.model_dump()), settings


def r2p(task: Task, retriever: Retriever | None = None, carrier: Carrier = "fields", **parts: Any) -> R2P:
    """The task's R2P program, uncompiled; `parts` are others that `R2P` takes, such as `candidates`."""
    retriever = retriever or default_retriever(task)
    return R2P(task.signature, retriever=retriever, checks=task.checks, carrier=carrier, **parts)


def build(
    task: Task, settings: R2PConfig, *, seed: int = 0, tokens: int | None = None, items: Retriever | None = None
) -> R2P:
    """The task's R2P program with these settings, uncompiled.

    Args:
        task: what it does.
        settings: how it is set up.
        seed: of the retriever "random".
        tokens: what the items may take together; None for no such limit.
        items: the retriever, where it is made already.

    Raises:
        ValueError: one line on a setting that cannot be.

    Example:
        >>> from programs.tasks.lamp2 import TASK
        >>> build(TASK, R2PConfig(template="brief")).reason.template.leaves()[0].name
        'evidence'
    """
    if settings.template not in TEMPLATES:
        raise ConfigError(f"unknown template {settings.template!r}; the templates are {', '.join(TEMPLATES)}")
    return r2p(
        task,
        items or retriever(task, settings.retriever, k=settings.k, seed=seed, tokens=tokens),
        settings.carrier,
        template=TEMPLATES[settings.template],
        candidates=settings.candidates,
        reconcile=settings.reconcile,
        adaptive=settings.adaptive,
    )
