"""One predictor that reasons by a template."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import dspy
from dspy.adapters import Adapter
from dspy.signatures.signature import ensure_signature
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.checks import Check
from r2p_dspy.decoding.carriers import ThoughtTags, field_marks
from r2p_dspy.decoding.constraining import active_constraint, constraining
from r2p_dspy.decoding.grammar.answer import AnswerGrammar
from r2p_dspy.decoding.grammar.building import constraint_for
from r2p_dspy.decoding.monitor import CorrectionMode, Monitor, enforced
from r2p_dspy.decoding.notices import collect_notices
from r2p_dspy.decoding.steering import steering
from r2p_dspy.engines.connect import constrains
from r2p_dspy.engines.families import hides_thoughts, knows_markers_only
from r2p_dspy.modules.failures import UnreadableAnswer
from r2p_dspy.modules.justify import known_answers, request
from r2p_dspy.modules.profile_predict import ProfilePredict
from r2p_dspy.modules.steps import Call, Steps, arun, run
from r2p_dspy.outcome import Inputs, Outcome, unshadowed
from r2p_dspy.prediction import Details, R2PPrediction, Reasoning
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.adapter import RecordingAdapter, active_adapter, suited
from r2p_dspy.prompting.causes import Unreadable, unread, unreadable_of
from r2p_dspy.prompting.citations import as_shown
from r2p_dspy.prompting.item_turns import ItemTurns
from r2p_dspy.prompting.parsing import cited, read_thought, without_thought, written_order
from r2p_dspy.prompting.replies import Reply, collect_replies
from r2p_dspy.prompting.signature import Carrier, extend
from r2p_dspy.prompting.tags import guide
from r2p_dspy.template import TEMPLATE, Template
from r2p_dspy.values.neutral import Neutral
from r2p_dspy.values.typed import labels_of

CUT_OFF = "the answer was cut off at the token limit; what was read of it may lack its end"
_CHAT_ONLY = "the model knows the chat adapter's format alone, so {} was not used"
_FREE = "the model cannot be constrained, so the form of its answer was checked, not enforced"
_PARTLY = "the grammar of the answer leaves the form of {} to its type's own check"
_SHORTENED = (
    "the grammar lets an answer quote only the beginning of item {}, or nothing of it; lower k or shorten the items"
)
_HIDDEN = "the model hides its thoughts, so it was asked for the stages in the text of its answer"


class Reason(ProfilePredict):
    """A predictor that reasons by a template before it writes its signature's own outputs.

    It shows the profile's items under short local ids and with texts that cannot forge the prompt's structure,
    shortened where the prompt would not fit the model's context; and only demos with every stage.

    Args:
        signature: a class with exactly one `Profile` input; a string signature can name no types.
        template: the stages.
        carrier: what the stages travel in: "fields", typed output fields, or "thinking", tags in the native thinking of
            a reasoning model. DSPy shows no thoughts of demos, so "thinking" prompts get no demos: use it with
            optimized instructions and with RL. A model that hides its thoughts (`openai/o3`) writes the tags in the
            text of its answer, and `warnings` says so.
        demo_tokens: the tokens that demos may take of a prompt at most, estimated from bytes; a medium counts 1,600.
        quotable: see `R2P`.
        turns: see `R2P`. Prompts with turns get no demos: the user's own answers stand in their place.
        config: options of the LM call, as in `dspy.Predict`.

    A call returns an `R2PPrediction` whose fields are the stages and the outputs.

    Raises:
        ConfigError: the signature has not exactly one profile input.
        UnreadableAnswer: in a call, the completion cannot be read as the signature's outputs.

    Examples:
        >>> from r2p_dspy.profile import Profile
        >>> class Tag(dspy.Signature):
        ...     film: str = dspy.InputField()
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> list(Reason(Tag).signature.output_fields)[-2:]
        ['verification', 'tag']
    """

    def __init__(
        self,
        signature: type[dspy.Signature] | str,
        template: Template = TEMPLATE,
        *,
        carrier: Carrier = "fields",
        demo_tokens: int = 2000,
        quotable: Sequence[str] = (),
        turns: Mapping[str, str] | None = None,
        **config: Any,
    ) -> None:
        typed: type[dspy.Signature] = ensure_signature(signature)  # type: ignore[assignment]  # None only for None
        extended = extend(typed, template, carrier)
        super().__init__(extended.signature, demo_tokens=demo_tokens, **config)
        self.template, self.quotable = template, tuple(quotable)
        self.turns = None if turns is None else ItemTurns(self.profile, dict(turns))
        if self.turns is not None:
            self.turns.check(typed)
        self.stages = extended.stages
        self.thought = extended.thought
        self.answers = extended.answers
        self.reserved = tuple(stage.name for stage, _ in template.walk())

    def forward(self, **inputs: Any) -> R2PPrediction:
        return run(self._steps(inputs))

    async def aforward(self, **inputs: Any) -> R2PPrediction:
        return await arun(self._steps(inputs))

    @property
    def takes_demos(self) -> bool:
        """Whether prompts show demos: not those with native thinking, nor those with turns."""
        return self.thought is None and self.turns is None

    def usable_demos(self, demos: list[Any], neutral: Neutral = str) -> list[dict[str, Any]]:
        return super().usable_demos(demos, neutral) if self.takes_demos else []

    @property
    def labels(self) -> tuple[str, ...]:
        """The answers that the signature allows, or () for free text."""
        return labels_of(self.signature.output_fields[self.answers[0]].annotation)

    def outcome_of(self, fields: Mapping[str, Any], completion: str) -> Outcome:
        """The typed outcome of a completion, from the outputs that an adapter read from its text."""
        answers = {name: fields[name] for name in self.answers}
        if self.thought is not None:
            thought = fields.get(self.thought)
            return read_thought(self.template, str(thought) if thought else completion, answers)
        stages = {stage: fields[name] for stage, name in self.stages.items()}
        order = written_order(without_thought(completion), self.stages)
        return Outcome(fields=answers, stages=stages, order=order, answers=self.answers)

    def stage_fields(self, outcome: Outcome) -> dict[str, Any]:
        """The stages of an outcome under the names of their fields; none on the thinking carrier."""
        return {name: unshadowed(outcome).stages[stage] for stage, name in self.stages.items()}

    def details_of(self, inputs: Inputs, outcome: Outcome, completion: str) -> Details:
        """The details of a call without checks and corrections."""
        stages = unshadowed(outcome).stages or dict.fromkeys(stage.name for stage in self.template.leaves())
        seen = unshadowed(inputs)
        warnings = [] if seen.items else ["no item of the history was shown, so the answer rests on none"]
        if dropped := Profile.of(seen.fields.get(self.profile)).dropped:
            warnings.append(f"entries of the history that hold no text were left out: {dropped}")
        reasoning = Reasoning(stages, cited(inputs, outcome))
        error = unshadowed(outcome).error  # of a thought, which the adapter does not read
        why = Unreadable(cause="malformed", reason=error.rstrip("."), reply=completion) if error else None
        return Details(reasoning, outcome, inputs, warnings=warnings, completion=completion, unreadable=why)

    def constraint_of(self, inputs: Inputs, adapter: Adapter, tokens: int | None) -> AnswerGrammar | None:
        """The form of the answers to a prompt with these inputs, which come to their end within so many tokens.

        None under an adapter whose format is not known.
        """
        return constraint_for(
            self.signature.output_fields,
            [*unshadowed(inputs).items],
            adapter,
            template=self.template,
            stages=self.stages,
            answers=self.answers,
            thinks=self.thought is not None,
            tokens=tokens,
            known=known_answers(),
            quotable=self.quotable,
        )

    def monitor_of(self, inputs: Inputs, adapter: Adapter, checks: Sequence[Check], most: int) -> Monitor | None:
        """What reads an answer to a prompt with these inputs while it is written, and corrects it at most so often.

        None under an adapter whose format is not known.
        """
        in_thought = self.thought is not None
        marks = ThoughtTags(self.template) if in_thought else field_marks(adapter, self.stages, self.answers)
        return None if marks is None else Monitor(marks, self.template, checks, inputs, most, outputs=self.answers)

    def _steps(self, inputs: dict[str, Any]) -> Steps[R2PPrediction]:
        inputs = {**inputs, self.profile: Profile.of(inputs.get(self.profile))}
        lm, configured = self.model(inputs), active_adapter()
        suiting = suited(configured, lm)
        guidance = "" if self.thought is None else guide(self.template)
        adapter = RecordingAdapter.of(suiting, guide=guidance, request=request(known_answers()), items=self.turns)
        hidden = self.thought is not None and hides_thoughts(lm)
        if hidden:  # the thought becomes an output in the text
            kinds = adapter.native_response_types
            adapter.native_response_types = [kind for kind in kinds if kind is not dspy.Reasoning]
        options = {**lm.kwargs, **self.config, **inputs.get("config", {})}

        def prepare() -> tuple[dict[str, Any], int, Inputs, AnswerGrammar | None]:
            shown, truncated = self.prepared(inputs, adapter)
            seen = Inputs(fields=inputs, items=shown[self.profile], labels=self.labels)
            return shown, truncated, seen, self._constraint(seen, adapter, lm, options.get("max_tokens"))

        # It may ask a server, to count tokens and for what it can do; an event loop must not wait for that.
        shown, truncated, seen, constraint = yield Call(prepare, partial(asyncio.to_thread, prepare), {})
        monitors: list[Monitor] = []
        replies: list[Reply] = []
        notices: list[str] = []

        def details(outcome: Outcome, completion: str) -> Details:
            plain = self.details_of(seen, outcome, completion)
            cut_off = bool(replies) and replies[-1].finish == "length"
            constrained = constraint is not None and constrains(lm)
            # Of a call that broke off and was made again, the monitors of the answers that came.
            monitor = monitors[-(options.get("n") or 1) :][0] if monitors else None
            mode: CorrectionMode = monitor.correction_mode if monitor else "retry"
            other = [] if suiting is configured else [_CHAT_ONLY.format(type(configured).__name__)]
            return replace(
                plain,
                warnings=[
                    *plain.warnings,
                    *other,
                    *[_HIDDEN] * hidden,
                    *[CUT_OFF] * cut_off,
                    *(_left_free(constraint) if constrained else [_FREE] * (enforced().constrain == "on")),
                    *notices,
                ],
                interventions=[*monitor.interventions] if monitor else [],
                correction_mode="constrained" if constrained else mode,
                truncated_chars=truncated,
            )

        try:
            monitoring = steering(self._monitoring(seen, adapter, monitors))
            with (
                dspy.context(adapter=adapter),
                monitoring,
                constraining(constraint or active_constraint()),
                collect_replies(replies),
                collect_notices(notices),
            ):
                # Not `super()`, which would prepare the items again.
                forward, aforward = partial(dspy.Predict.forward, self), partial(dspy.Predict.aforward, self)
                prediction = yield Call(forward, aforward, shown)
        except AdapterParseError as error:
            why = unreadable_of(error)
            failed = replace(details(unread(error), adapter.first_text or why.reply), unreadable=why)
            raise UnreadableAnswer.of(error, failed).with_traceback(error.__traceback__) from None
        outcome = self.outcome_of(prediction, adapter.first_text)
        answer = details(outcome, adapter.first_text)
        # The trace has this very prediction; the demo that it may become quotes the items as prompts show them.
        for name, value in self.stage_fields(as_shown(answer.inputs, outcome)).items():
            prediction[name] = value
        return R2PPrediction(prediction, details=answer)

    def _constraint(self, inputs: Inputs, adapter: Adapter, lm: dspy.LM, tokens: int | None) -> AnswerGrammar | None:
        """The form of a call's answers; None where they are to be free, or cannot be constrained."""
        constrain = enforced().constrain
        # A model that was trained on the template keeps it; what it then writes is its own choice of words.
        wanted = constrain == "on" or (constrain == "auto" and not knows_markers_only(lm))
        form = constrains(lm) if wanted else None
        if form is None:
            return None
        constraint = self.constraint_of(inputs, adapter, tokens)
        only_schema = form == "schema" and constraint is not None and constraint.schema() is None
        return None if only_schema else constraint

    def _monitoring(self, inputs: Inputs, adapter: Adapter, monitors: list[Monitor]) -> Callable[[], Monitor] | None:
        """What makes a monitor for each answer of a call; None where nothing is to be monitored, or nothing can be."""
        checks, most, _ = enforced()
        if most < 1 or self.monitor_of(inputs, adapter, checks, most) is None:
            return None

        def monitor() -> Monitor:
            made = self.monitor_of(inputs, adapter, checks, most)
            assert made is not None, "as above"
            monitors.append(made)
            return made

        return monitor


def _left_free(constraint: AnswerGrammar | None) -> list[str]:
    """What the grammar of an answer does not hold, in words."""
    if constraint is None:
        return []
    left = {_PARTLY: constraint.unconstrained, _SHORTENED: constraint.shortened}
    return [words.format(", ".join(names)) for words, names in left.items() if names]
