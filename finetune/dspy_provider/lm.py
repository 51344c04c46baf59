"""The `dspy.LM` of an in-process model that is being trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from r2p_dspy.engines.connect import in_process
from r2p_dspy.engines.lm import LocalLM


class TrainableLM(LocalLM):
    """An in-process LM that DSPy's optimizers can train; `provider.trainable` makes it.

    A copy with another in-process `model` (`hf:DIR`) runs that model.
    """

    provider: Any  # a `TRLProvider`
    finetuning_model: str
    rollouts: Iterator[int] | None = None  # set during training by reward: every call is another sample

    def __call__(self, *prompt: Any, **kwargs: Any) -> Any:
        return super().__call__(*prompt, **self._next_rollout(kwargs))

    async def acall(self, *prompt: Any, **kwargs: Any) -> Any:
        return await super().acall(*prompt, **self._next_rollout(kwargs))

    def copy(self, **kwargs: Any) -> TrainableLM:
        """A copy with other attributes or request parameters; see `dspy.LM.copy`."""
        model = kwargs.get("model")
        if isinstance(model, str) and in_process(model):
            kwargs |= _attributes(model, self.engine)
        return super().copy(**kwargs)

    def switch(self, model: str) -> None:
        """Run another in-process model from now on; DSPy's GRPO keeps this object, so it changes in place.

        `engine` has no setter, so the state of a copy is taken over by DSPy's own pickle protocol.
        """
        state: Any = self.copy(model=model).__getstate__()
        self.__setstate__({**state, "history": self.history, "callbacks": self.callbacks})

    def _next_rollout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        # DSPy's GRPO repeats a request for each rollout, and an in-process engine would repeat its answer.
        return kwargs if self.rollouts is None else {**kwargs, "rollout_id": next(self.rollouts)}

    def _stops_loops(self) -> bool:
        return super()._stops_loops() and self.rollouts is None  # of a rollout that loops, GRPO learns from the whole


def _attributes(model: str, engine: Any) -> dict[str, Any]:
    """What a `dspy.LM` needs to run an in-process model with the options of another one's engine."""
    from r2p_dspy.engines import AsyncTransformersEngine, TransformersEngine

    new_engine = TransformersEngine.shared(model.removeprefix("hf:"), **engine.options)
    return {
        "model": new_engine.model_name,
        "engine": new_engine,
        "async_engine": AsyncTransformersEngine(new_engine),
        "finetuning_model": model,
    }
