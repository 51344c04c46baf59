"""Cross-referencing: sample several outcomes of a module and reconcile them (paper, self-referencing module)."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast, get_args

import dspy
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.errors import CheckError, ConfigError
from r2p_dspy.modules.enforce import Trace, inner_parameters, optimizing
from r2p_dspy.modules.failures import AssertionFailed
from r2p_dspy.modules.on_unmet import OnUnmet, checked_policy, settle
from r2p_dspy.modules.sampled import Sampled, agreement
from r2p_dspy.modules.steps import Steps, arun, call, run
from r2p_dspy.modules.voting import Reconcile, alike, choose, due, is_number, key, line
from r2p_dspy.prediction import R2PPrediction
from r2p_dspy.prompting.adapter import RecordingAdapter, active_adapter


class CrossReference(dspy.Module):
    """Sample a module's outcome several times, and reconcile the outcomes.

    A candidate that breaks an assert has no vote. Evidence is pooled: an answer that no
    surviving evidence supports loses to one that it supports. The outer trace gets the steps of the chosen candidate
    and those of the synthesis. State names are the wrapped module's own, and `synthesize`.

    Args:
        module: any module whose predictions have the answer; with an `Enforce`, its verdicts say who survives.
        answer: the output to reconcile.
        n: the number of candidates at most, at least 1.
        reconcile: "vote": the most frequent answer; "median", for numbers; "medoid", for texts: the one most like the
            others under ROUGE-L; "synthesis": `synthesize` reads the surviving candidates with their evidence and
            chooses one, or writes a better text (the paper's way); "auto": by median where most answers are numbers,
            by vote where two agree, else by medoid. None is an answer like any other.
        adaptive: stop sampling when the answer is settled. True: when the leading answer stays ahead with a probability
            of 0.95; a number: another probability; 1.0: when nothing can change the answer.
        synthesize: for "synthesis": a predictor with the module's inputs and `candidates` that yields the answer, such
            as `Synthesize(signature)`.
        on_unmet: what to do when no candidate survives, see `Enforce`; the best of them is what it is about.

    Candidates are sampled at the temperature of the predictor or its LM, or at 1 where that is 0. Each is a rollout of
    its own. All candidates that are certain to be needed are sampled at once. A call returns the chosen candidate's
    prediction, an `R2PPrediction` with `candidates` and `decision`.

    Raises:
        ConfigError: `n` is below 1, `adaptive` is outside (0, 1], `reconcile` is unknown, or "synthesis" comes without
            a predictor.
        AssertionFailed: in a call, no candidate survives, with `on_unmet="raise"`; it holds the best of them (returned
            instead under `optimizing()`).
        CheckError: in a call, a check itself fails.
        Exception: in a call, every candidate fails with an exception; the first one is raised.

    Examples:
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
        on_unmet: OnUnmet = "raise",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if n < 1:
            raise ConfigError(f"candidates must be at least 1, not {n}")
        if reconcile not in get_args(Reconcile):
            raise ConfigError(f"unknown way to reconcile {reconcile!r}; the ways are {', '.join(get_args(Reconcile))}")
        if (reconcile == "synthesis") != (synthesize is not None):
            raise ConfigError('reconcile="synthesis" goes with a predictor to synthesize with, and no other way does')
        self.confidence = 0.95 if adaptive is True else adaptive or None
        if self.confidence is not None and not 0 < self.confidence <= 1:
            raise ConfigError(f"adaptive is True, False or a probability above 0 and up to 1, not {adaptive}")
        self.module, self.answer, self.n, self.reconcile = module, answer, n, reconcile
        self.synthesize, self.on_unmet = synthesize, checked_policy(on_unmet)

    def named_parameters(self) -> list[tuple[str, Any]]:
        own = [] if self.synthesize is None else [("synthesize", self.synthesize)]
        return [*inner_parameters(self.module), *own]

    def forward(self, **inputs: Any) -> R2PPrediction:
        return run(self._steps(inputs))

    async def aforward(self, **inputs: Any) -> R2PPrediction:
        return await arun(self._steps(inputs))

    def _steps(self, inputs: dict[str, Any]) -> Steps[R2PPrediction]:
        samples: list[Sampled] = []
        while count := due([sample.candidate for sample in samples], self.answer, self.n, self.confidence):
            numbers = range(len(samples), len(samples) + count)
            samples += yield [self._sample(*self._sampler(n), self._numbered(inputs, n)) for n in numbers]
        chosen = choose([sample.candidate for sample in samples], self.answer, self.reconcile)
        if chosen is None:
            answer = self._answered(samples, None)
            attempts, completion = answer.details.attempts, answer.details.completion
            if not attempts or getattr(dspy.settings, "r2p_optimizing", False):
                return answer
            failure = AssertionFailed(answer, attempts, completion, inputs)
            return (yield from settle(failure, self.on_unmet, [self.answer]))
        if self.synthesize is None:
            return self._answered(samples, chosen)
        numbered = [(number, sample.candidate) for number, sample in enumerate(samples, start=1)]
        lines = [line(number, each.answer, each.stages) for number, each in numbered if each.survives]
        synthesis: dspy.Prediction | None = None
        trace: Trace = []
        with suppress(AdapterParseError), dspy.context(adapter=RecordingAdapter.of(active_adapter()), trace=trace):
            synthesis = yield call(self.synthesize, {**inputs, "candidates": "\n".join(lines)})
        return self._answered(samples, *self._synthesized(samples, chosen, synthesis), trace)

    def _sampler(self, number: int) -> tuple[dspy.Module, dict[int, Any]]:
        """A copy of the module that samples, and the original predictors by the identity of their copies."""
        module, originals = _copied(self.module), {}
        for own, original in zip(_predictors(module), _predictors(self.module), strict=True):
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

    def _numbered(self, inputs: Mapping[str, Any], number: int) -> Mapping[str, Any]:
        """The inputs of a sample: a call's own `config` would else undo what `_sampler` sets."""
        config = inputs.get("config")
        if not config:
            return inputs
        own = {**config, "rollout_id": (config.get("rollout_id") or 0) * self.n + number}
        if "temperature" in config:
            own["temperature"] = config["temperature"] or 1.0
        return {**inputs, "config": own}

    def _sample(self, module: dspy.Module, originals: dict[int, Any], inputs: Mapping[str, Any]) -> Steps[Sampled]:
        trace: Trace = []
        try:
            with dspy.context(trace=trace), optimizing():
                result = yield call(module, inputs)
        except CheckError:  # no candidate's fault: the others would meet it too
            raise
        except Exception as error:  # one candidate less, whatever the reason
            result = error
        restored = [(originals.get(id(predictor), predictor), *rest) for predictor, *rest in trace]
        return Sampled.of(result, self.answer, restored)

    def _synthesized(self, samples: list[Sampled], voted: int, synthesis: dspy.Prediction | None) -> tuple[int, str]:
        """The place of the candidate that the model chose, and why; a text of its own becomes one more candidate."""
        if synthesis is None:
            return voted, f"the comparison cannot be read, so {agreement(samples, voted)}"
        answer = synthesis.get(self.answer)
        surviving = [sample for sample in samples if sample.candidate.survives]
        for place, sample in enumerate(samples):
            if sample.candidate.survives and key(sample.candidate.answer[self.answer]) == key(answer):
                return place, f"the model decided for it after reading {len(surviving)} candidates"
        if isinstance(answer, str) and answer.strip() and not is_number(answer):
            nearest = max(surviving, key=lambda sample: alike(sample.candidate.answer[self.answer], answer))
            own = nearest.answering(self.answer, answer, getattr(self.module, "checks", ()))
            if own is not None:
                samples.append(own)
                return len(samples) - 1, f"the model wrote it after reading {len(surviving)} candidates"
        return voted, f"the model's own answer does not hold, so {agreement(samples, voted)}"

    def _answered(
        self, samples: Sequence[Sampled], chosen: int | None, decision: str | None = None, synthesis: Sequence[Any] = ()
    ) -> R2PPrediction:
        answered = [sample for sample in samples if isinstance(sample.result, R2PPrediction)]
        if not answered:
            raise cast(Exception, samples[0].result)
        best = min(answered, key=_violations) if chosen is None else samples[chosen]
        best.candidate.chosen = True
        outer = dspy.settings.trace
        if outer is not None:
            outer.extend([*best.trace, *synthesis])
            del outer[: -dspy.settings.max_trace_size]
        prediction = cast(R2PPrediction, best.result)
        decision = decision or ("no candidate holds" if chosen is None else agreement(samples, chosen))
        details = replace(prediction.details, candidates=[sample.candidate for sample in samples], decision=decision)
        return R2PPrediction(prediction, details=details)


def _copied(module: dspy.Module) -> dspy.Module:
    """A module of its own that shares the language models: a copied LM would copy its whole history."""
    shared = {id(predictor.lm): predictor.lm for predictor in _predictors(module) if predictor.lm is not None}
    try:
        return copy.deepcopy(module, shared)
    except Exception:  # as DSPy does: what cannot be copied is shared
        shared_copy: dspy.Module = module.deepcopy()
        return shared_copy


def _violations(sample: Sampled) -> int:
    return len(cast(R2PPrediction, sample.result).details.violations)


def _predictors(module: dspy.Module) -> list[dspy.Predict]:
    return [parameter for _, parameter in inner_parameters(module) if isinstance(parameter, dspy.Predict)]
