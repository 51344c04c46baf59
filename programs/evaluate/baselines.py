"""The programs that are measured side by side: plain prediction, chain of thought, and R2P, on the same items."""

from typing import Any

import dspy

from programs.tasks.retrievers import default_retriever
from programs.tasks.task import Task
from r2p_dspy import Profile, active_adapter, shorten
from r2p_dspy.retrieval.retriever import Retriever, query_text


class WithItems(dspy.Module):
    """A module that is given the same items as R2P: retrieved, rendered and shortened in the same way.

    Args:
        task: whose signature and profile field the module has.
        module: `dspy.Predict` or `dspy.ChainOfThought` on the task's signature.
        retriever: the same as the R2P program's.
    """

    def __init__(self, task: Task, module: dspy.Module, retriever: Retriever | None = None):
        super().__init__()
        self.module = module
        self.profile = task.profile
        self.retriever: Any = retriever or default_retriever(task)

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        query = query_text({**kwargs, self.profile: None}, getattr(self.retriever, "query", None))
        items = self.retriever(query, Profile.of(kwargs[self.profile])).local()
        predictor = self.module.predictors()[0]
        lm = predictor.lm or dspy.settings.lm
        items, _, _ = shorten(lm, active_adapter(), predictor.signature, [], kwargs, self.profile, items)
        return self.module(**{**kwargs, self.profile: items})


def baselines(task: Task, retriever: Retriever | None = None) -> dict[str, dspy.Module]:
    """What a DSPy user has without R2P, under the names of the reports."""
    return {
        "predict": WithItems(task, dspy.Predict(task.signature), retriever),
        "cot": WithItems(task, dspy.ChainOfThought(task.signature), retriever),
    }
