"""Everything that this project uses of DSPy and that DSPy does not document: one function each, with its reason.

`tests/r2p_dspy/test_dspy_internals.py` has a test for each, which fails when a release of DSPy drops it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import dspy

LM = TypeVar("LM", bound=dspy.LM)
Model = TypeVar("Model", bound=dspy.BaseLM)

# What DSPy returns here is untyped, so these functions return `Any` where a value's type is open.


def is_known_provider(name: str) -> bool:
    """Whether DSPy's own client serves the models of a provider.

    DSPy resolves a provider at the first call only. `connect` refuses an unknown one before that.
    """
    from dspy._vendor.lm15.registry import lookup
    from dspy.lm15 import registered_providers

    registered = (provider.definition for provider in registered_providers())
    return lookup(name) is not None or any(name in (known.id, *known.aliases) for known in registered)


def model_info(model: str) -> Mapping[str, Any]:
    """The context window and the prices of a served model, from the table that DSPy ships; empty if it is not there.

    DSPy has no public function for this, and LiteLLM's takes seconds to import.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the table is fetched from the network
    from dspy.clients.model_metadata import model_info as look_up

    provider, _, name = model.partition("/")
    known: Mapping[str, Any] = look_up(provider, name)
    return known


def async_engine(lm: dspy.LM) -> Any:
    """The engine of an LM's async calls, or None. `dspy.LM` shows only the other one, as `lm.engine`."""
    return lm._async_engine_spec


def is_streaming() -> bool:
    """Whether the running call streams to a listener of `dspy.streamify`."""
    return dspy.settings.send_stream is not None


@contextmanager
def forwarding_stream() -> Iterator[None]:
    """Let calls in the block run on another loop than the running one, where the listener of `dspy.streamify` waits.

    DSPy's stream belongs to the loop of its listener.
    """
    stream, listener = dspy.settings.send_stream, asyncio.get_running_loop()

    class Forwarding:
        async def send(self, chunk: Any) -> None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(stream.send(chunk), listener))

    with dspy.context(send_stream=Forwarding()):
        yield


def plain_outputs(outputs: Any) -> Any:
    """An LM's outputs as dicts, lists, texts and numbers, to be stored as JSON."""
    from dspy.clients.legacy_outputs import plain

    return plain(outputs)


def attribute_outputs(outputs: Any) -> Any:
    """Stored outputs as an LM returns them: adapters read tool calls and log-probabilities by key and by attribute."""
    from dspy.clients.call_result import attributes

    return attributes(outputs)


def copy_as(lm: dspy.LM, kind: type[LM]) -> LM:
    """A copy of an LM as an instance of a subclass of its class.

    `dspy.LM.copy` keeps the class, and a constructor cannot make a copy: no attribute tells which arguments an LM was
    made with. The copy shares what DSPy's own copies share: the engine, its connections and their lock.
    """
    copied = object.__new__(kind)
    vars(copied).update(vars(lm.copy()))
    return copied


def copy_completions(source: dspy.Prediction, target: dspy.Prediction) -> None:
    """Give a prediction the completions (`n` > 1) of another; DSPy sets them in `from_completions` alone."""
    target._completions = source.completions


def picklable_state(prediction: dspy.Prediction) -> dict[str, Any]:
    """A prediction's state without its completions' signature, a class that pickle may not find."""
    from dspy.primitives.prediction import Completions

    completions = prediction.completions and Completions(dict(prediction.completions.items()))
    return {**vars(prediction), "_completions": completions}


def seen_as(lm: Model, kind: type[Model]) -> Model:
    """The same LM as an instance of a subclass of its class: what either sets, both have.

    A copy would not do: a model of the user's may count its calls, or walk through prepared answers.
    """
    seen = object.__new__(kind)
    seen.__dict__ = lm.__dict__
    return seen
