"""The teacher's model, asked by this process or on a Ray cluster. Completed calls are kept until the run is over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import dspy

from finetune.config import FinetuneConfig
from finetune.task_setup import TaskSetup
from finetune.traces import collect_traces, is_complete, without_examples
from programs.calls.asking import Each
from programs.calls.keeping import CallKeeping
from programs.calls.patience import CallFailures
from programs.calls.recording import record_calls
from programs.cluster.asking import Cluster, reached
from programs.cluster.row_worker import Asking
from programs.runs.active import open_calls
from programs.runs.reporter import Reporter
from programs.tasks.answer_length import tokens_needed

_RUN = "finetune"  # the id under which calls are kept


def calls_of(config: FinetuneConfig, directory: Path) -> CallKeeping:
    """How a run keeps the teacher's calls."""
    return CallKeeping.of(config.calls, config.cache, directory / "calls")


@contextmanager
def asking_teacher(
    config: FinetuneConfig, setups: Sequence[TaskSetup], directory: Path, cluster: Cluster | None = None
) -> Iterator[tuple[dspy.LM, Each | None]]:
    """In this block, programs ask the teacher.

    Args:
        config: of the run.
        setups: its tasks.
        directory: of the run.
        cluster: where examples are asked; None for this process.

    Yields:
        The teacher's model, and how examples are asked on the cluster.
    """
    # DSPy's cache forgets what calls took.
    lm, calls = config.teacher.connect(cache=False, **_how(config, setups)), calls_of(config, directory)
    with (
        open_calls(calls, _RUN) as (limiter, cache),
        nullcontext() if cluster is None else cluster.each(limiter, calls, _RUN) as each,
    ):
        teacher = record_calls(lm, cache, limiter, CallFailures(limiter, lm.model, config.max_failures))
        with config.teacher.asking(teacher):
            yield teacher, each


def teacher_traces(
    config: FinetuneConfig,
    setups: Sequence[TaskSetup],
    source: dict[str, Any],
    run: Path,
    directory: Path,
    reporter: Reporter,
    told: bool,
) -> Path:
    """The teacher's traces in a directory of a run; see `collect_traces`."""
    on_ray = config.ray is not None and not is_complete(directory)
    with (
        _reached(config, setups) if on_ray else nullcontext() as cluster,
        asking_teacher(config, setups, run, cluster) as (lm, each),
    ):
        return collect_traces(
            setups, lm, source, directory, config.num_threads, reporter, config.max_failures, told, each
        )


@contextmanager
def _reached(config: FinetuneConfig, setups: Sequence[TaskSetup]) -> Iterator[Cluster]:
    """The cluster of `--ray`, which asks the teacher as this process would."""
    asking = Asking(config.teacher, _how(config, setups), config.num_threads, config.ray_workers, config.max_failures)
    with reached(str(config.ray), asking, config.tasks, [without_examples(setup) for setup in setups]) as cluster:
        yield cluster


def _how(config: FinetuneConfig, setups: Sequence[TaskSetup]) -> dict[str, Any]:
    """How the teacher's model is connected: for its carrier, and the tokens that its longest answers need."""
    golds = ([example[setup.task.gold] for example in setup.data.train] for setup in setups)
    longest = (tokens_needed(setup.task, setup.teacher, answers) for setup, answers in zip(setups, golds, strict=True))
    return {"carrier": config.r2p.carrier, "needed": max(longest)}
