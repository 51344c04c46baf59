"""Opening a run: its directory, the call cache, the limits on what it spends, and MLflow."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.exceptions import LMError

from programs.calls.cache import CallCache, CallCacheFailed, Usage
from programs.calls.keeping import CallKeeping
from programs.calls.patience import LAST_SECONDS, MAX_FAILURES, CallFailures, RunStopped
from programs.calls.recording import record_calls
from programs.calls.usage import UsageLimiter, UsageLimitReached, UsageLimits
from programs.runs import tracking
from programs.runs.directory import Run
from programs.runs.reporter import Reporter
from r2p_dspy.errors import RunError


@dataclass(frozen=True)
class ActiveRun:
    """A run in progress."""

    directory: Run
    lm: dspy.LM  # the model that its programs ask; calls are counted, and kept if there is a call cache
    limiter: UsageLimiter
    cache: CallCache | None = None
    max_failures: float = MAX_FAILURES

    def recorded(self, lm: dspy.LM) -> dspy.LM:
        """A model whose calls count as the run's, and whose failures end it. See `advising` for other models."""
        return record_calls(lm, self.cache, self.limiter, CallFailures(self.limiter, lm.model, self.max_failures))

    def advising(self, lm: dspy.LM) -> dspy.LM:
        """A model whose calls count as the run's, but whose failures cost no example its score."""
        return record_calls(lm, self.cache, self.limiter)


@contextmanager
def open_calls(
    calls: CallKeeping,
    run: str,
    limits: UsageLimits = UsageLimits(),  # noqa: B008  (frozen)
) -> Iterator[tuple[UsageLimiter, CallCache | None]]:
    """Open a run's call cache, or none, and the limiter of its calls. When the block ends, calls under way are kept.

    If it ends because calls fail, those of a served model that take three seconds more are given up.

    Args:
        calls: how calls are kept.
        run: the id of the run.
        limits: the most that the run may spend, with what the cache says that it spent before.

    Raises:
        RunError: for a directory that cannot be used, when the disk becomes full, and when too many calls fail.
        LMError: when the model cannot be reached, or refuses the user.
    """
    cache = None if calls.directory is None else CallCache(calls.directory, run, by_row=calls.by_row)
    limiter = UsageLimiter(limits, Usage() if cache is None else cache.usage(run))
    try:
        yield limiter, cache
    except CallCacheFailed as failed:
        raise RunError(str(failed)) from None
    except RunStopped as stopped:
        raise stopped.error from None
    except (LMError, RunError) as failed:  # too many calls fail: those under way hardly do better
        limiter.close(RunStopped(failed), LAST_SECONDS)
        raise
    finally:
        # Calls that are under way are paid for, so their answers are kept.
        limiter.close(UsageLimitReached("the run is over"))
        limiter.drain()
        if cache is not None:
            cache.close()


@contextmanager
def open_run(
    output: Path,
    command: str,
    options: Mapping[str, Any],
    identity: Mapping[str, Any],
    lm: dspy.LM,
    reporter: Reporter,
    *,
    resume: bool = False,
    limits: UsageLimits = UsageLimits(),  # noqa: B008  (frozen)
    calls: CallKeeping = CallKeeping(None),  # noqa: B008  (frozen)
    mlflow: str | None = None,
    max_failures: float = MAX_FAILURES,
) -> Iterator[ActiveRun]:
    """Open a run's directory. No other process can work in it until it is closed.

    Args:
        output, resume: see `Run`.
        command, options, identity: what a resumed run must share: the command's name, the options that decide the
            result, and what else decides it, such as digests of files and examples, and names of models.
        lm: the model that programs ask.
        reporter: shows what fails at the end.
        limits: the most that the run may spend.
        calls: how it keeps its calls.
        mlflow: where MLflow keeps the run; None for nowhere.
        max_failures: the share of the calls of a model that may fail, see `CallFailures`.

    Raises:
        ConfigError: for a limit that cannot hold, and an MLflow store that cannot be used. Nothing is written then.
        RunError: for a directory that cannot be used, see `Run`; when the disk becomes full, or too many calls fail.
        LMError: when the model cannot be reached, or refuses the user.
    """
    CallFailures(UsageLimiter(), lm.model, max_failures)  # refuse what cannot hold before anything is written
    record_calls(lm, None, UsageLimiter(limits))
    store = tracking.connected(mlflow)
    with (
        Run(output, {"command": command, **options, **identity}, resume) as directory,
        tracking.tracked(store, directory.path, command, options, reporter),
    ):
        with ExitStack() as stack:
            try:
                limiter, cache = stack.enter_context(open_calls(calls, directory.id, limits))
            except RunError:
                directory.withdraw()
                raise
            failures = CallFailures(limiter, lm.model, max_failures)
            yield ActiveRun(directory, record_calls(lm, cache, limiter, failures), limiter, cache, max_failures)
        calls.finish()
