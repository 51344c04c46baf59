"""R2P: retrieve, reason by a template, enforce the checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.signatures.signature import ensure_signature

from r2p_dspy.checks import BUILT_IN, Check
from r2p_dspy.errors import AssertionFailed, ConfigError
from r2p_dspy.modules.cross_reference import CrossReference
from r2p_dspy.modules.enforce import Enforce, accepted
from r2p_dspy.modules.reason import Reason
from r2p_dspy.modules.synthesize import Synthesize
from r2p_dspy.modules.voting import Reconcile
from r2p_dspy.profile import Item, Profile
from r2p_dspy.prompting.parsing import cited
from r2p_dspy.prompting.signature import Carrier
from r2p_dspy.retrieval.bm25 import BM25
from r2p_dspy.retrieval.retriever import Retriever, query_text
from r2p_dspy.template import TEMPLATE, Template


@dataclass(frozen=True)
class Reasoning:
    """A prediction's stages, typed, each an attribute, and the items of the profile that it cites.

    Args:
        stages: what each stage of the template yielded, by name.
        cited: the cited items under their own ids, in the order in which they were first cited.
    """

    stages: Mapping[str, Any]
    cited: tuple[Item, ...]

    def __getattr__(self, name: str) -> Any:
        stages = self.__dict__.get("stages", {})
        if name in stages:
            return stages[name]
        raise AttributeError(f"the template has no stage {name!r}; it has {', '.join(stages)}")


class R2P(dspy.Module):
    """Reasoning to Personalization: stands where `dspy.ChainOfThought(signature)` stands.

    Args:
        signature: a class with exactly one `Profile` input.
        retriever: which items to show; `BM25(k=4)` by default, matching all text inputs with all of an item's text.
        checks: the program's own, beside the built-in ones (`r2p_dspy.checks.BUILT_IN`).
        template: the stages of the reasoning.
        carrier: what the stages travel in: "fields" or "thinking" (see `Reason`).
        max_backtracks: how often at most a call tries again when a check fails.
        max_interventions: how often at most an attempt is corrected while it runs, where the engine can be steered.
        candidates: how many outcomes are sampled and reconciled at most; 1 samples none beside the answer.
        reconcile: how, see `CrossReference`; "synthesis" adds the predictor `synthesize`, which optimizers tune.
        adaptive: stop sampling when the answer is settled, see `CrossReference`.
        config: for the LM call, as in `dspy.Predict`.

    A call takes the signature's inputs, the profile as a `Profile`, a list of dicts or its text, and returns a
    `dspy.Prediction` with the signature's outputs and
        reasoning: the stages, typed, with the cited items (`Reasoning`);
        retrieved: the items as the model saw them;
        violations: verdicts of the checks still unmet; empty on a clean answer;
        attempts: the verdicts of every attempt (of the chosen candidate), the first one first; one that was corrected
            while it ran counts as two, without and with its corrections;
        interventions: what was corrected while the accepted attempt ran;
        grade: how a failed check reaches the model: "stream", while it reasons; "stages", between two stages; or
            "retry", when it is done;
        outcome: what the checks saw;
        candidates: what was reconciled, each with its support (list of `Candidate`); empty without cross-referencing;
        reconciled: in words, why the chosen candidate won;
        notes: what a reader of the answer must know, such as that it rests on no item of the history;
        cut: how many characters were left out of the items so that the prompt fits the model's context.
    A signature's own output of such a name wins it.

    Raises:
        AssertionFailed: when an assert does not hold after the last backtrack (recorded instead under `optimizing()`).

    Example:
        >>> class Tag(dspy.Signature):
        ...     film: str = dspy.InputField()
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> [name for name, _ in R2P(Tag).named_predictors()]
        ['reason']
    """

    def __init__(
        self,
        signature: type[dspy.Signature] | str,
        *,
        retriever: Retriever | None = None,
        checks: Sequence[Check] = (),
        template: Template = TEMPLATE,
        carrier: Carrier = "fields",
        max_backtracks: int = 2,
        max_interventions: int = 2,
        candidates: int = 1,
        reconcile: Reconcile = "auto",
        adaptive: bool | float = False,
        **config: Any,
    ):
        super().__init__()
        asked: Any = ensure_signature(signature)
        self.reason = Reason(asked, template, carrier=carrier, **config)
        self.retriever: Any = retriever if retriever is not None else BM25(k=4)
        stages = [stage.name for stage, _ in template.walk()]
        for check in checks:
            if getattr(check, "after", None) not in (None, *stages):
                raise ConfigError(
                    f"check {check.name!r} is to run after {check.after!r}; the template has {', '.join(stages)}"
                )
        self.checks = (*BUILT_IN, *checks)
        self.max_backtracks, self.max_interventions = max_backtracks, max_interventions
        self.candidates, self.reconcile, self.adaptive = candidates, reconcile, adaptive
        if reconcile == "synthesis" and candidates < 2:
            raise ConfigError(
                f'reconcile="synthesis" reads several candidates: let candidates be 2 or more, not {candidates}'
            )
        if reconcile == "synthesis":
            self.synthesize = Synthesize(asked, **config)
        self.inner  # raises for what is no check, and for candidates that cannot be  # noqa: B018

    @property
    def enforce(self) -> Enforce:
        """The checks around `reason`; made anew, so that no copy of this module can come to hold `reason` twice."""
        return Enforce(self.reason, self.checks, self.max_backtracks, self.max_interventions)

    @property
    def inner(self) -> dspy.Module:
        """All that stands behind the retriever."""
        if self.candidates == 1:
            return self.enforce
        return CrossReference(
            self.enforce,
            self.reason.answers[0],
            self.candidates,
            reconcile=self.reconcile,
            adaptive=self.adaptive,
            synthesize=getattr(self, "synthesize", None),
        )

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        kwargs = self._retrieve(kwargs)
        try:
            return self._finish(self.inner(**kwargs))
        except AssertionFailed as unmet:
            raise AssertionFailed(self._finish(unmet.prediction), unmet.attempts) from None

    async def aforward(self, **kwargs: Any) -> dspy.Prediction:
        kwargs = self._retrieve(kwargs)
        try:
            return self._finish(await self.inner.acall(**kwargs))
        except AssertionFailed as unmet:
            raise AssertionFailed(self._finish(unmet.prediction), unmet.attempts) from None

    def load_state(self, state: dict[str, Any], **options: Any) -> None:
        """As of any module; `synthesize` stays as it is where the state is of a program without it."""
        super().load_state({**self.dump_state(), **state} if "reason" in state else state, **options)

    def _retrieve(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        name = self.reason.profile
        profile = Profile.of(kwargs.get(name))
        own = {key: value for key, value in kwargs.items() if key in self.reason.signature.input_fields}
        query = query_text({**own, name: None}, getattr(self.retriever, "query", None))
        items = self.retriever(query, profile)
        if items is None:
            raise ConfigError(f"the retriever {self.retriever!r} returned None; let it return a profile, maybe empty")
        return {**kwargs, name: Profile.of(items)}

    def _finish(self, made: dspy.Prediction) -> dspy.Prediction:
        outcome, attempts, items, run = made._outcome, made._attempts, made._inputs.items, made._run
        answers = {name: outcome.fields.get(name) for name in self.reason.answers}
        stages = outcome.stages or {stage.name: None for stage in self.reason.template.leaves()}
        reasoning = Reasoning(stages, cited(made._inputs, outcome))
        extras = {
            "reasoning": reasoning,
            "retrieved": items,
            "violations": accepted(attempts).unmet,
            "attempts": attempts,
            "outcome": outcome,
            "notes": [] if items else ["no item of the history was shown, so the answer rests on none"],
            "cut": run.cut if run is not None else 0,
            "interventions": list(run.interventions or ()) if run is not None else [],
            "grade": "retry" if run is None else run.grade,
        }
        extras |= getattr(made, "_reconciled", {"candidates": [], "reconciled": ""})
        finished = dspy.Prediction(**{**extras, **answers})
        finished._attempts, finished._completions = attempts, made._completions
        return finished
