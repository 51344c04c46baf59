"""Running a program over examples: one row of facts for each, written as they come."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError
from dspy.utils.parallelizer import ParallelExecutor
from dspy.utils.usage_tracker import UsageTracker

from metrics.evidence import valid
from metrics.structure import compliant_final, compliant_first
from programs.runs.directory import Rows
from programs.tasks.task import Task
from r2p_dspy import optimizing

Progress = Callable[[], None]


def measure(
    program: dspy.Module, examples: Sequence[dspy.Example], task: Task, rows: Rows, threads: int, progress: Progress
) -> list[dict[str, Any]]:
    """Run a program over examples, those excepted that already have a row.

    Args:
        program: any module with the task's inputs and answer.
        examples: what to run it on.
        task: says which field is scored.
        rows: where results go and where earlier ones are found.
        threads: calls in flight.
        progress: called after each example.

    Returns:
        A row for each example, in order: id, user (None where nobody knows), answer, gold, whether it was a parse
        failure, compliance and evidence validity (first attempt, and accepted one), violations, calls, tokens,
        seconds, and those of each call.

    Raises:
        Exception: what the language model raises, at its first failure; an answer that cannot be read is no failure.
    """
    return collect(lambda example: _row(program, example, task), examples, rows, threads, progress)


def collect(
    ask: Callable[[dspy.Example], dict[str, Any]],
    examples: Sequence[dspy.Example],
    rows: Rows,
    threads: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    """A row for each example, those excepted that already have one, written as they come.

    Args:
        ask: an example to its row, which has the example's `id`.
        examples, rows, threads, progress: as of `measure`.

    Returns:
        The rows, in the order of the examples.

    Raises:
        Exception: what `ask` raises, at its first failure, or what a row that cannot be written does.
    """
    done = {row["id"]: row for row in rows}
    todo = [example for example in examples if example.id not in done]
    lock, failure = threading.Lock(), []

    def one(example: dspy.Example) -> None:
        try:
            row = ask(example)
            with lock:
                rows.append(row)
                done[row["id"]] = row
                progress()
        except Exception as error:
            failure.append(error)
            raise

    executor = ParallelExecutor(num_threads=threads, max_errors=1, disable_progress_bar=True, timeout=0)
    try:
        if todo:
            executor.execute(one, todo)
    except KeyboardInterrupt:
        raise
    except Exception as stopped:
        raise (failure[0] if failure else stopped) from None
    return [done[example.id] for example in examples]


def spent(usage: UsageTracker, started: float) -> dict[str, Any]:
    """What a row says of its cost: calls, tokens, the seconds since `started` (of `time.monotonic`) and of each call.

    Calls that were answered from the ledger take as long as they did when they were made.
    """
    entries = [entry for calls in usage.usage_data.values() for entry in calls]
    then = sum(entry["seconds"] for entry in entries if entry.get("replayed"))
    return {
        "calls": len(entries),
        "prompt_tokens": sum(entry.get("prompt_tokens") or 0 for entry in entries),
        "completion_tokens": sum(entry.get("completion_tokens") or 0 for entry in entries),
        "seconds": round(time.monotonic() - started + then, 4),
        "latency": [entry["seconds"] for entry in entries if "seconds" in entry],
    }


def _row(program: dspy.Module, example: dspy.Example, task: Task) -> dict[str, Any]:
    started, failed = time.monotonic(), False
    # DSPy's silent second call through its JSON adapter would pass for an answer in the format that was asked for.
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    # Trace and history are the row's own, and gone with it: else they would grow with the examples.
    alone = dspy.context(adapter=adapter, trace=[], disable_history=True)
    with dspy.track_usage() as usage, optimizing(), alone:
        try:
            prediction = program(**example.inputs())
        except (AdapterParseError, RecursionError):  # the latter of thousands of brackets, as models repeat themselves
            prediction, failed = dspy.Prediction(), True
    answer = prediction.get(task.answer)
    violations = prediction.get("violations") or []
    attempts = prediction.get("attempts") or []
    return {
        "id": example.id,
        "user": example.get("user"),
        "answer": answer,
        "gold": example[task.answer],
        "parse_failure": failed or answer is None,
        "compliant_first": compliant_first(prediction),
        "compliant": compliant_final(prediction),
        "evidence_first": valid(prediction, first=True) if attempts else None,
        "evidence": valid(prediction) if attempts else None,
        "violations_first": [verdict.check for verdict in attempts[0].unmet if verdict.message] if attempts else [],
        "violations": [verdict.check for verdict in violations if verdict.message],
        "cited": [item.id for item in getattr(prediction.get("reasoning"), "cited", ())],
        "attempts": len(attempts) or 1,
        "interventions": len(prediction.get("interventions") or []),
        **spent(usage, started),
    }
