"""What R2P is compared with: answers that need no model, plain prediction, and chain of thought."""

from collections.abc import Sequence
from typing import Any

import dspy

from metrics.trivial_baselines import trivial_baselines as evaluate_baselines
from programs.tasks.retrievers import default_retriever
from programs.tasks.task import Task
from r2p_dspy import Profile, active_adapter, shorten
from r2p_dspy.retrieval.retriever import Retriever, query_text
from r2p_dspy.values.typed import as_text

VOTE = "cot:vote"  # the name of the majority of several chains of thought


class WithRetrieval(dspy.Module):
    """A module on the task's signature that sees the same items as R2P: retrieved, rendered and shortened alike."""

    def __init__(self, task: Task, module: dspy.Module, retriever: Retriever | None = None):
        super().__init__()
        self.module = module
        self.profile = task.profile
        self.max_tokens: int | None = None  # of an answer; counts where it is below the LM's own limit
        self.temperature: float | None = None  # in place of the LM's own
        self.retriever: Any = retriever or default_retriever(task)

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        query = query_text({**kwargs, self.profile: None}, getattr(self.retriever, "query", None))
        items = self.retriever(query, Profile.of(kwargs[self.profile])).local()
        predictor = self.module.predictors()[0]
        lm = predictor.lm or dspy.settings.lm
        most, config = lm.kwargs.get("max_tokens"), dict[str, Any]()
        if self.max_tokens is not None and most is not None and self.max_tokens < most:
            config["max_tokens"] = self.max_tokens
        if self.temperature is not None:
            config["temperature"] = self.temperature
        items, _, _ = shorten(lm, active_adapter(), predictor.signature, [], kwargs, self.profile, items)
        return self.module(**{**kwargs, self.profile: items}, **({"config": config} if config else {}))


def baselines(task: Task, retriever: Retriever | None = None) -> dict[str, WithRetrieval]:
    """Plain prediction and chain of thought, by their names in a report."""
    return {
        "predict": WithRetrieval(task, dspy.Predict(task.signature), retriever),
        "cot": WithRetrieval(task, dspy.ChainOfThought(task.signature), retriever),
    }


def trivial_baselines(task: Task, examples: Sequence[dspy.Example], train: Sequence[dspy.Example]) -> dict[str, float]:
    """What the trivial baselines reach in the task's first metric; see `floors`."""
    first = task.metrics[0]
    return floors(task, examples, train, [first])[first]  # METEOR alone takes seconds


def floors(
    task: Task, examples: Sequence[dspy.Example], train: Sequence[dspy.Example], metrics: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """What the trivial baselines reach in each of some metrics; the majority label is counted on `train`.

    Without `metrics`, in each of the task's. Personas also have `blind_oracle`, the best possible answer of someone who
    does not see the profile.
    """
    metrics = metrics or task.metrics
    golds = [example[task.gold] for example in examples]
    values = evaluate_baselines(
        [example[task.question] for example in examples],
        [example[task.profile] for example in examples],
        golds,
        metrics,
        answer=(lambda item: item.label) if task.labels else (lambda item: item.fields[task.written]),
        labels=task.labels,
        train=[as_text(example[task.gold]) for example in train],
        match=task.match or str,
        text=task.searched,
        tokenize=task.tokenize,
    )
    if all("blind" in example for example in examples):
        blind = [example.blind for example in examples]
        values["blind_oracle"] = {name: task.metric(name).corpus(blind, golds, task.labels) for name in metrics}
    return {name: {baseline: by_metric[name] for baseline, by_metric in values.items()} for name in metrics}
