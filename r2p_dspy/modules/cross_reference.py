"""Cross-referencing: sample several outcomes of a module and reconcile them (paper, self-referencing module)."""

import asyncio
import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, get_args

import dspy
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.errors import AssertionFailed, ConfigError
from r2p_dspy.modules.enforce import inner_parameters, optimizing
from r2p_dspy.modules.sampled import Sampled, agreement
from r2p_dspy.modules.voting import Reconcile, alike, choose, due, is_number, key, line
from r2p_dspy.prompting.adapter import active_adapter, watch

SETTLED = 0.95  # the probability from which `adaptive=True` takes an answer for settled


class CrossReference(dspy.Module):
    """Sample a module's outcome several times, and reconcile the outcomes.

    A candidate that breaks an assert has no say while another does not, and evidence is pooled: an answer that no
    surviving evidence supports loses to one that it supports. The outer trace gets the entries of the candidate that
    was answered with, and those of the synthesis; state names are the wrapped module's own, and `synthesize`.

    Args:
        module: any module whose predictions have the answer; with an `Enforce`, its verdicts say who survives.
        answer: the output that is reconciled.
        n: candidates at most, at least 1.
        reconcile: "vote": the most frequent answer; "median", for numbers; "medoid", for texts: the one most like the
            others under ROUGE-L; "synthesis": `synthesize` reads all candidates with their evidence and writes the
            answer (the paper's way); "auto": numbers by median, answers of which two agree by vote, else by medoid.
        adaptive: stop sampling when the answer is settled: True, when with a probability of 0.95 the leading answer
            stays ahead; a number, another probability; 1.0 stops when nothing can change it any more.
        synthesize: for "synthesis": a predictor that takes the module's inputs and `candidates`, and yields the answer,
            such as `Synthesize(signature)`.

    Raises:
        ValueError: for an `n` below 1, an `adaptive` outside (0, 1], an unknown `reconcile`, or "synthesis" without a
            predictor.

    Candidates are sampled at the temperature of the predictor or its LM, or at 1 where that is 0, each as a rollout of
    its own, all at once as far as they are certain to be needed. A call returns the chosen candidate's prediction, with
    `candidates` (list of `Candidate`) and `reconciled`, in words how it came to the answer. Where none survives it
    raises the `AssertionFailed` of the best of them, or, under `optimizing()`, returns that; where every candidate
    fails in its engine, it raises the first one's error.

    Example:
        >>> [name for name, _ in CrossReference(dspy.ChainOfThought("film -> tag"), "tag", n=3).named_predictors()]
        ['predict']
    """

    def __init__(
        self,
        module: dspy.Module,
        answer: str,
        n: int = 3,
        *,
        reconcile: Reconcile = "auto",
        adaptive: bool | float = False,
        synthesize: dspy.Module | None = None,
    ):
        super().__init__()
        if n < 1:
            raise ConfigError(f"candidates must be at least 1, not {n}")
        if reconcile not in get_args(Reconcile):
            raise ConfigError(f"unknown way to reconcile {reconcile!r}; the ways are {', '.join(get_args(Reconcile))}")
        if (reconcile == "synthesis") != (synthesize is not None):
            raise ConfigError('reconcile="synthesis" goes with a predictor to synthesize with, and no other way does')
        self.confidence = SETTLED if adaptive is True else adaptive or None
        if self.confidence is not None and not 0 < self.confidence <= 1:
            raise ConfigError(f"adaptive is True, False or a probability above 0 and up to 1, not {adaptive}")
        self.module, self.answer, self.n, self.reconcile = module, answer, n, reconcile
        self.synthesize = synthesize

    def named_parameters(self) -> list[tuple[str, Any]]:
        own = [] if self.synthesize is None else [("synthesize", self.synthesize)]
        return [*inner_parameters(self.module), *own]

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        runs: list[Sampled] = []
        while count := due([run.candidate for run in runs], self.answer, self.n, self.confidence):
            samplers = [self._sampler(len(runs) + at) for at in range(count)]
            with ThreadPoolExecutor(count) as pool:
                # Each in a copy of this context: plain threads would not see DSPy's settings.
                calls = [pool.submit(copy_context().run, partial(self._sample, *one, kwargs)) for one in samplers]
                runs += [call.result() for call in calls]
        chosen = choose([run.candidate for run in runs], self.answer, self.reconcile)
        if chosen is None or self.synthesize is None:
            return self._answered(runs, chosen)
        written: dspy.Prediction | None = None
        trace: list[Any] = []
        with suppress(AdapterParseError), dspy.context(adapter=watch(active_adapter()), trace=trace):
            written = self.synthesize(**self._to_compare(kwargs, runs))
        return self._answered(runs, *self._synthesized(runs, chosen, written), trace)

    async def aforward(self, **kwargs: Any) -> dspy.Prediction:
        runs: list[Sampled] = []
        while count := due([run.candidate for run in runs], self.answer, self.n, self.confidence):
            samplers = [self._sampler(len(runs) + at) for at in range(count)]
            runs += await asyncio.gather(*(self._asample(*one, kwargs) for one in samplers))
        chosen = choose([run.candidate for run in runs], self.answer, self.reconcile)
        if chosen is None or self.synthesize is None:
            return self._answered(runs, chosen)
        written: dspy.Prediction | None = None
        trace: list[Any] = []
        with suppress(AdapterParseError), dspy.context(adapter=watch(active_adapter()), trace=trace):
            written = await self.synthesize.acall(**self._to_compare(kwargs, runs))
        return self._answered(runs, *self._synthesized(runs, chosen, written), trace)

    def _sampler(self, number: int) -> tuple[dspy.Module, dict[int, Any]]:
        """A copy of the module that samples, and of its predictors the originals, by identity."""
        module, originals = _copied(self.module), {}
        pairs = zip(_predictors(module), _predictors(self.module), strict=True)
        for own, original in pairs:
            lm = own.lm or dspy.settings.lm
            known = {**getattr(lm, "kwargs", {}), **own.config}
            # A rollout of its own: else a cache, or an engine that repeats itself, would answer every candidate alike.
            own.config = {
                **own.config,
                "rollout_id": (known.get("rollout_id") or 0) * self.n + number,
                "temperature": known.get("temperature") or 1.0,
            }
            originals[id(own)] = original
        return module, originals

    def _sample(self, module: dspy.Module, originals: dict[int, Any], kwargs: Mapping[str, Any]) -> Sampled:
        trace: list[Any] = []
        try:
            with dspy.context(trace=trace), optimizing():
                made: Any = module(**kwargs)
        except Exception as error:  # one candidate less, whatever it died of
            made = error
        return Sampled.of(made, self.answer, [(originals.get(id(one), one), *rest) for one, *rest in trace])

    async def _asample(self, module: dspy.Module, originals: dict[int, Any], kwargs: Mapping[str, Any]) -> Sampled:
        trace: list[Any] = []
        try:
            with dspy.context(trace=trace), optimizing():
                made: Any = await module.acall(**kwargs)
        except Exception as error:
            made = error
        return Sampled.of(made, self.answer, [(originals.get(id(one), one), *rest) for one, *rest in trace])

    def _to_compare(self, kwargs: Mapping[str, Any], runs: Sequence[Sampled]) -> dict[str, Any]:
        """The module's inputs, and the candidates that survive."""
        held = [(number, run) for number, run in enumerate(runs, start=1) if run.candidate.survives]
        lines = [line(number, run.candidate.answer, run.candidate.stages) for number, run in held]
        return {**kwargs, "candidates": "\n".join(lines)}

    def _synthesized(self, runs: list[Sampled], voted: int, written: dspy.Prediction | None) -> tuple[int, str]:
        """The place of the candidate that the model decided for, and how; a text of its own becomes one more."""
        count = sum(run.candidate.survives for run in runs)
        if written is None:
            return voted, f"the comparison cannot be read, so {agreement(runs, voted)}"
        answer = written.get(self.answer)
        for at, run in enumerate(runs):
            if run.candidate.survives and key(run.candidate.answer[self.answer]) == key(answer):
                return at, f"the model decided for it after reading {count} candidates"
        if isinstance(answer, str) and answer.strip() and not is_number(answer):
            held = [run for run in runs if run.candidate.survives]
            nearest = max(held, key=lambda run: alike(run.candidate.answer[self.answer], answer))
            if (own := nearest.answering(self.answer, answer, getattr(self.module, "checks", ()))) is not None:
                runs.append(own)
                return len(runs) - 1, f"the model wrote it after reading {count} candidates"
        return voted, f"the model's own answer does not hold, so {agreement(runs, voted)}"

    def _answered(
        self, runs: Sequence[Sampled], chosen: int | None, said: str | None = None, written: Sequence[Any] = ()
    ) -> dspy.Prediction:
        made = [run for run in runs if isinstance(run.made, dspy.Prediction)]
        if not made:
            raise runs[0].made
        best = max(made, key=lambda run: run.met) if chosen is None else runs[chosen]
        best.candidate.chosen = True
        outer = dspy.settings.trace
        if outer is not None:
            outer.extend([*best.trace, *written])
            del outer[: -dspy.settings.max_trace_size]
        answer = best.made
        extras = {
            "candidates": [run.candidate for run in runs],
            "reconciled": said or ("no candidate holds" if chosen is None else agreement(runs, chosen)),
        }
        answer._reconciled = extras
        for name, value in extras.items():
            if name not in answer:
                answer[name] = value
        attempts = best.candidate.attempts
        if chosen is None and attempts and not getattr(dspy.settings, "r2p_optimizing", False):
            raise AssertionFailed(answer, attempts)
        return answer


def _copied(module: dspy.Module) -> dspy.Module:
    """A module of its own that shares the language models: a copy of one would hold all that it was ever asked."""
    shared = {id(one.lm): one.lm for one in _predictors(module) if one.lm is not None}
    try:
        return copy.deepcopy(module, shared)
    except Exception:  # as DSPy has it: what cannot be copied is shared
        return module.deepcopy()


def _predictors(module: dspy.Module) -> list[Any]:
    return [one for _, one in inner_parameters(module) if isinstance(one, dspy.Predict)]
