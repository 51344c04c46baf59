"""What a reader must know about a run's numbers: too few examples, a metric or a model that does not fit the data."""

from collections.abc import Sequence

from metrics.meteor import missing_data
from programs.data.dataset import PERSONA_WORLD
from programs.data.personas import LONG_MAKERS
from programs.tasks.task import Task

_FEW = 20  # examples; of fewer, one answer moves a share by more than five points
_UNREAD = 0.5  # the share of right answers that a metric may fail to recognize
_RECOGNIZED = 0.5  # what every text metric gives a text against itself that it can read: METEOR gives one word 0.5


def cautions(task: Task, golds: Sequence[str], model: str, source: str) -> list[str]:
    """One line for each thing that makes a report's numbers say less than they seem to.

    Args:
        task: whose metrics are reported.
        golds: the right answers of the reported examples.
        model: the model's name, as `r2p_dspy.connect` takes it.
        source: where the examples come from (`Data.source`).

    Examples:
        >>> from programs.tasks.lamp3 import TASK
        >>> cautions(TASK, ["5"] * 19, "openai/gpt-4o-mini", "rows.jsonl")
        ['only 19 examples: one answer moves a mean by 5 %, so most differences are chance; measure 20 or more']
    """
    own = [*_few(golds), *_absent_labels(task, golds), *_unread(task, golds), *_without_data(task)]
    return [*own, *_untrained(task, model, source), *foreign_text(model, source)]


def foreign_text(model: str, source: str) -> list[str]:
    """That the pocket model was not made for other texts than its own world's; nothing for other models and data."""
    if model != "pocket" or source == PERSONA_WORLD:
        return []
    return ["the pocket model knows only its synthetic persona world, and was not made for other texts; give --model"]


def _untrained(task: Task, model: str, source: str) -> list[str]:
    if model != "pocket" or source != PERSONA_WORLD or task.name not in LONG_MAKERS:
        return []
    return [f"the pocket model was not trained on {task.name}: its answers show that the machinery runs, no quality"]


def _few(golds: Sequence[str]) -> list[str]:
    if not 0 < len(golds) < _FEW:
        return []
    share = f"one answer moves a mean by {100 / len(golds):.0f} %"
    examples = f"{len(golds)} examples" if len(golds) > 1 else "1 example"
    return [f"only {examples}: {share}, so most differences are chance; measure {_FEW} or more"]


def _absent_labels(task: Task, golds: Sequence[str]) -> list[str]:
    """Macro F1 over LaMP's full list of labels counts 0 for a label that is never right."""
    absent = len(set(task.labels) - set(golds))
    if "f1" not in task.metrics or not absent or not golds:
        return []
    most = (len(task.labels) - absent) / len(task.labels)
    return [
        f"f1 is the mean over all {len(task.labels)} labels, as in LaMP; {absent} of them are no right answer here and "
        f"count 0, so f1 is at most {most:.3f}"
    ]


def _without_data(task: Task) -> list[str]:
    """METEOR without all of its data is another number than the official one."""
    if "meteor" not in task.metrics or not (missing := missing_data()):
        return []
    get = f"python -m nltk.downloader {' '.join(missing)}"
    return [f"meteor is not the official one, which needs nltk's {' and '.join(missing)}: {get} (docs/longform.md)"]


def _unread(task: Task, golds: Sequence[str]) -> list[str]:
    """A metric that does not recognize the right answer itself, because it reads another script."""
    lines = []
    for name in () if task.labels or task.by_rubric else task.metrics:
        unread = sum(task.metric(name).example(gold, gold, task.labels) < _RECOGNIZED for gold in golds)
        if golds and unread > _UNREAD * len(golds):
            share = f"{100 * unread / len(golds):.0f} %"
            lines.append(
                f"{name} gives {share} of the right answers themselves less than full marks, because it does not read "
                "their script; its values say nothing here"
            )
    return lines
