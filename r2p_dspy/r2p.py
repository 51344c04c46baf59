"""R2P: retrieve, reason by a template, enforce the checks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
from dspy.signatures.signature import ensure_signature

from r2p_dspy.artifact_file import read_json
from r2p_dspy.checks import BUILT_IN, Check, combined, validated
from r2p_dspy.decoding.constraining import Constrain
from r2p_dspy.engines.affinity import calls_of
from r2p_dspy.errors import ArtifactError, ConfigError
from r2p_dspy.modules.cross_reference import CrossReference
from r2p_dspy.modules.enforce import Enforce
from r2p_dspy.modules.failures import AssertionFailed
from r2p_dspy.modules.justify import known_answers, untold
from r2p_dspy.modules.on_unmet import OnUnmet, checked_policy, settle
from r2p_dspy.modules.reason import Reason
from r2p_dspy.modules.steps import Call, Steps, arun, call, run
from r2p_dspy.modules.synthesize import Synthesize
from r2p_dspy.modules.voting import Reconcile
from r2p_dspy.outcome import unshadowed
from r2p_dspy.prediction import R2PPrediction
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.signature import Carrier
from r2p_dspy.retrieval.bm25 import BM25
from r2p_dspy.retrieval.retriever import Retriever, matches, query_text
from r2p_dspy.stores.histories import Histories
from r2p_dspy.stores.protocol import ProfileStore
from r2p_dspy.template import TEMPLATE, Template

_USER = "user"  # the argument of a call that names whose history to read
_UNMATCHED = "no item shown has a word of the query, so the items were not chosen by what they say"


class R2P(dspy.Module):
    """Reinforced Reasoning for Personalization (arXiv 2505.17571); it replaces `dspy.ChainOfThought(signature)`.

    Args:
        signature: a class with exactly one `Profile` input.
        retriever: picks the items to show; `BM25(k=4)` by default, which matches all text inputs with all of an item's
            text.
        checks: the program's own checks, in addition to the built-in ones (`r2p_dspy.checks.BUILT_IN`). A check with
            the name of a built-in one replaces it: `Suggest(checks.quoted)` relaxes `quoted`.
        template: the stages of the reasoning.
        carrier: what the stages travel in: "fields" or "thinking" (see `Reason`).
        max_backtracks: the most retries of one call, when a check fails.
        max_interventions: the most corrections of one running attempt, where the engine can be steered.
        constrain: whether answers are written under a grammar, which the template and the shown items make: "auto"
            where the engine can, "on" with a warning where it cannot, "off".
        quotable: the fields of items that evidence quotes under a grammar, whole where they are short, such as the
            titles where a title is to be written; () for pieces of all.
        turns: shows items as turns of the conversation, each an input that the user answered, instead of a list: the
            field of an item that stands for a field of the signature, as in `{"film": "text", "tag": "label"}`, where
            "label" is the item's label. Small models follow turns where they copy from a list. An item that lacks one
            of them stays in the list. With turns, prompts have no demos.
        on_unmet: what to do when an assert fails after the last retry. "raise": raise `AssertionFailed`; "return":
            return the best attempt, whose `violations` say what is unmet; a function: it is called with the
            `AssertionFailed` and returns the answer, as a dict or a prediction. It may be async where the call is.
            Of a prediction only the signature's outputs are kept.
        candidates: the most outcomes to sample; with 1, nothing is reconciled.
        reconcile: how to reconcile, see `CrossReference`; "synthesis" adds the predictor `synthesize`, which optimizers
            tune.
        adaptive: stop sampling when the answer is settled, see `CrossReference`.
        store: where the histories of users are kept, for calls that name a user: what `r2p_dspy.stores.open_store`
            returns, or a `Histories` with a policy for new users. It is no part of a saved program.
        config: options of the LM call, as in `dspy.Predict`.

    A call takes the signature's inputs; the profile may be whatever `Profile.of` reads, such as a list of dicts, rows
    of a database or a data frame. With a store, a call may name a user in its place, as in `user="ada"`; a profile that
    is given wins. It returns an `R2PPrediction`: its fields are the signature's outputs, and `Details` lists what else
    it has, such as `answer.reasoning`, `answer.violations` and `answer.explain()`.

    Raises:
        ConfigError: the signature, a check or a setting cannot be used; in a call, it names a user without a store.
        StoreError: in a call, the store cannot be used.
        AssertionFailed: in a call, an assert fails after the last retry, with `on_unmet="raise"`. Under `optimizing()`
            it is recorded, whatever `on_unmet` says.

    Examples:
        >>> class Tag(dspy.Signature):
        ...     film: str = dspy.InputField()
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> program = R2P(Tag)  # then: program(film="…", profile=[{"id": "m1", "text": "…", "label": "…"}]).tag
        >>> [name for name, _ in program.named_predictors()]
        ['reason']
    """

    histories: Histories | None = None

    def __init__(
        self,
        signature: type[dspy.Signature] | str,
        *,
        retriever: Retriever | None = None,
        checks: Sequence[Check] = (),
        template: Template = TEMPLATE,
        carrier: Carrier = "fields",
        constrain: Constrain = "auto",
        quotable: Sequence[str] = (),
        turns: Mapping[str, str] | None = None,
        max_backtracks: int = 2,
        max_interventions: int = 2,
        on_unmet: OnUnmet = "raise",
        candidates: int = 1,
        reconcile: Reconcile = "auto",
        adaptive: bool | float = False,
        store: ProfileStore | Histories | None = None,
        **config: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        typed: type[dspy.Signature] = ensure_signature(signature)  # type: ignore[assignment]  # None only for None
        self.reason = Reason(typed, template, carrier=carrier, quotable=quotable, turns=turns, **config)
        self.retriever: Retriever = retriever if retriever is not None else BM25(k=4)
        stages = [stage.name for stage, _ in template.walk()]
        for check in validated(checks):
            if check.after not in (None, *stages):
                raise ConfigError(
                    f"check {check.name!r} is to run after {check.after!r}; the template has {', '.join(stages)}"
                )
        self.checks = combined(BUILT_IN, checks)
        self.on_unmet = checked_policy(on_unmet)
        self.max_backtracks, self.max_interventions = max_backtracks, max_interventions
        self.constrain = constrain
        self.store = store
        self.candidates, self.reconcile, self.adaptive = candidates, reconcile, adaptive
        if reconcile == "synthesis":
            if candidates < 2:
                raise ConfigError(f'reconcile="synthesis" reads several candidates: 2 or more, not {candidates}')
            self.synthesize = Synthesize(typed, **config)
        self.inner  # raises for arguments that cannot be used  # noqa: B018

    @property
    def enforce(self) -> Enforce:
        """The checks around `reason`; built anew at each use, so that no copy of this module holds `reason` twice."""
        checks = [*self.checks, *untold(known_answers(), self.reason.reserved)]
        return Enforce(self.reason, checks, self.max_backtracks, self.max_interventions, constrain=self.constrain)

    @property
    def inner(self) -> dspy.Module:
        """All that comes after the retriever."""
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

    @property
    def store(self) -> ProfileStore | None:
        """The store of users' histories; None for none. A program that was loaded from a file gets it anew."""
        return None if self.histories is None else self.histories.store

    @store.setter
    def store(self, store: ProfileStore | Histories | None) -> None:
        self.histories = Histories.of(store)

    def forward(self, **inputs: Any) -> R2PPrediction:
        return run(self._steps(inputs))

    async def aforward(self, **inputs: Any) -> R2PPrediction:
        return await arun(self._steps(inputs))

    def load(self, path: str | Path, allow_pickle: bool = False, allow_unsafe_lm_state: bool = False) -> None:
        """Load a file that `save` wrote, as `dspy.Module.load` does; it may be a stranger's.

        Args:
            path: a `.json` file, or a `.pkl` file with `allow_pickle`, which runs whatever code is in it.
            allow_pickle: whether to load a pickle.
            allow_unsafe_lm_state: whether to take the file's language model, with its provider and its address.

        Raises:
            ArtifactError: a JSON file that is too large or too deep, or no state of this program.
            ValueError: a pickle that is not allowed, or a file of another kind.
        """
        options = {"allow_pickle": allow_pickle, "allow_unsafe_lm_state": allow_unsafe_lm_state}
        if Path(path).suffix != ".json":
            super().load(path, **options)  # type: ignore[no-untyped-call]
            return
        read_json(Path(path), "saved state", "save")
        try:
            super().load(path, **options)  # type: ignore[no-untyped-call]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise ArtifactError(f"{path} is no saved state of this program ({problem}); save it again") from None

    def load_state(self, state: dict[str, Any], **options: Any) -> None:
        """Load a state; `synthesize` stays as it is when the state comes from a program without it."""
        known = {**self.dump_state(), **state} if "reason" in state else state
        super().load_state(known, **options)  # type: ignore[no-untyped-call]

    def retrieve(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """A call's inputs with the retrieved items in place of the whole profile.

        Raises:
            ConfigError: the retriever returned None.
        """
        profile = Profile.of(inputs.get(self.reason.profile))
        items = self.retriever(self.query_of(inputs), profile)
        if items is None:
            raise ConfigError(f"the retriever {self.retriever!r} returned None; let it return a profile, maybe empty")
        shown = Profile.of(items).model_copy(update={"dropped": profile.dropped})
        return {**inputs, self.reason.profile: shown}

    def query_of(self, inputs: dict[str, Any]) -> str:
        """What a call with these inputs looks for in the history."""
        fields = {key: value for key, value in inputs.items() if key in self.reason.signature.input_fields}
        return query_text({**fields, self.reason.profile: None}, getattr(self.retriever, "query", None))

    def _steps(self, inputs: dict[str, Any]) -> Steps[R2PPrediction]:
        user = inputs.get(_USER)
        inputs, warnings = yield from self._with_history(inputs)
        profile = Profile.of(inputs.get(self.reason.profile))
        retrieved = self.retrieve({**inputs, self.reason.profile: profile})
        items = retrieved[self.reason.profile]
        warnings += [_UNMATCHED] if items and not matches(self.retriever, self.query_of(inputs), items) else []
        failure: AssertionFailed | None = None
        try:
            with calls_of(_owner(user, profile)):
                prediction = yield call(self.inner, retrieved)
        except AssertionFailed as inner:
            unmet = self._outputs(inner.prediction, warnings)
            failure = AssertionFailed(unmet, inner.attempts, inner.completion, inputs)
        if failure is None:
            return self._outputs(prediction, warnings)
        answer = yield from settle(failure, self.on_unmet, self.reason.answers)
        kept: R2PPrediction = answer.without(*{*answer.keys()} - {*self.reason.answers})
        return kept

    def _with_history(self, inputs: dict[str, Any]) -> Steps[tuple[dict[str, Any], list[str]]]:
        """A call's inputs with the history of the user that it names, unless a profile is given, and warnings."""
        user, profile = inputs.get(_USER), self.reason.profile
        if _USER not in self.reason.signature.input_fields:
            inputs = {name: value for name, value in inputs.items() if name != _USER}
        if user is None or inputs.get(profile) is not None:
            return inputs, []
        if self.histories is None:
            if _USER in inputs:  # an input of the signature's own
                return inputs, []
            raise ConfigError(
                f"a call with user={user!r} needs a store: set program.store = open_store('sqlite:///FILE')"
            )
        read = Call(self.histories.read, self.histories.aread, {"user": user, "query": self.query_of(inputs)})
        history = yield read
        return {**inputs, profile: history.items}, [*history.warnings]

    def _outputs(self, prediction: R2PPrediction, warnings: list[str]) -> R2PPrediction:
        """The prediction with the signature's outputs as its only fields; None where they could not be read."""
        values = unshadowed(prediction.details.outcome).fields
        details = replace(prediction.details, warnings=[*warnings, *prediction.details.warnings])
        answer = R2PPrediction(prediction.without(*prediction.keys()), details=details)
        for name in self.reason.answers:
            answer[name] = values.get(name)
        return answer


def _owner(user: object, profile: Profile) -> str | None:
    """What tells whose calls these are: the user's name or, without one, the item with which the history begins."""
    if user is not None:
        return str(user)
    first = next(iter(profile), None)
    return None if first is None else str(first)
