"""Training rows: conversations in every format that the pocket model meets, made by DSPy's own adapter.

Formats come in equal numbers by default, with and without demos (DSPy shows none on the thinking carrier), with the
default instruction and with others. Formats with stages follow the full template, or for a given share the brief one.
"""

import random
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import dspy

from finetune.pocket.conversation import Turn
from finetune.pocket.corruption import candidates, corrupted, disordered, guessed, hurried
from finetune.pocket.teach import Lesson
from finetune.pocket.worlds import ALL, FEW, TASKS, WORLDS, World
from programs.data.personas.world import ROLES, Case, history, rng_of
from programs.tasks.task import Task
from r2p_dspy.checks import BUILT_IN, feedback, judge
from r2p_dspy.decoding.carriers import FieldMarkers, StageMarks, ThoughtTags
from r2p_dspy.decoding.monitor import Monitor
from r2p_dspy.engines.chat import CLOSE, OPEN
from r2p_dspy.outcome import Inputs, Outcome
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.feedback_turns import turns
from r2p_dspy.prompting.signature import comparing, extend
from r2p_dspy.prompting.tags import guide, render
from r2p_dspy.retrieval.bm25 import BM25
from r2p_dspy.template import BRIEF, TEMPLATE, Template

# Plain prediction; chain of thought; and of R2P: first attempts on fields, retries after feedback, attempts in native
# thinking (some of them retries), continuations of a corrected beginning on either carrier, synthesis.
FORMATS = ("plain", "cot", "r2p", "retry", "think", "continue", "synthesis")
_ADAPTER = dspy.ChatAdapter()
_Exercise = tuple[Task, type[dspy.Signature], str, Template, Profile, Lesson]  # a prompt, and the right answer


@cache
def signature(task: str, form: str, template: Template = TEMPLATE) -> type[dspy.Signature]:
    """The signature of a program's predictor in a format."""
    plain = TASKS[task].signature
    if form == "plain":
        return plain
    if form == "cot":
        return cast(type[dspy.Signature], dspy.ChainOfThought(plain).predict.signature)
    if form == "think":  # DSPy leaves the thought out of a thinking model's prompt
        extended = extend(plain, template, "thinking")
        return extended.signature.delete(extended.thought)
    if form == "synthesis":
        return comparing(plain)
    return extend(plain, template).signature


class Rows:
    """An endless stream of conversations about personas; streams with the same seed are equal."""

    def __init__(self, words: list[str], seed: int, role: str = "pocket"):
        self.words = words
        self.rng = random.Random(f"rows {seed}")
        self.role = role

    def case(self, name: str) -> Case:
        """A case in a world, of a persona that no command draws."""
        maker = WORLDS[name].maker
        if maker is None:
            return self._random_words()
        persona = self.rng.randrange(1_000_000 // len(ROLES)) * len(ROLES) + ROLES.index(self.role)
        return maker(persona, rng_of(maker, persona))

    def _random_words(self) -> Case:
        """A headline case of random words."""
        rng = self.rng
        count = rng.randint(4, 9)

        def text(length: int) -> str:
            words = [rng.choice(self.words) for _ in range(length)]
            words = [word.capitalize() if rng.random() < 0.15 else word for word in words]
            return " ".join(word + ("." if rng.random() < 0.05 else "") for word in words)

        items = [
            {"id": str(index), "title": text(count), "text": text(rng.randint(8, 25))}
            for index in range(rng.randint(1, 4))
        ]
        article = text(rng.randint(20, 60))
        answer = " ".join(article.split()[:count])
        return Case(0, article, items, answer, answer, (), extra={"words": count})

    def shown(self, name: str, case: Case, most: int) -> Profile:
        """The items that a prompt shows: mostly BM25's, in order or shuffled, sometimes random ones or none."""
        rng, task = self.rng, WORLDS[name].task
        profile = history(task, case)
        k = min(most, rng.choice((4, 4, 4, 4, 4, 3, 2, 5, 6, 1)))
        kind = rng.random()
        if kind < 0.02:
            return Profile()
        if kind < 0.10:
            return Profile(items=rng.sample(profile.items, min(k, len(profile)))).local()
        if kind < 0.13 and name in FEW:  # another user's; in the other worlds they contradict the lesson
            return self.shown(name, self.case(name), most)
        retrieve = BM25(k=k, text=task.item_text, tokenize=str.split)
        ranked = retrieve(task.query_text({task.question: case.question}), profile).items
        if rng.random() < 0.5:
            rng.shuffle(ranked)
        return Profile(items=ranked).local()

    def row(
        self,
        most_items: int = 6,
        demos: bool = True,
        forms: tuple[str, ...] = FORMATS,
        shares: Mapping[str, float] = ALL,
        brief: float = 0.0,
        hasty: float = 0.0,
    ) -> list[Turn]:
        """One conversation, of a drawn world (by `shares`) and format (one of `forms`).

        An example shows at most `most_items` items. In formats with stages, `brief` is the share of the brief template,
        and `hasty` that of first attempts that jump to an answer.
        """
        rng = self.rng
        name = rng.choices([*shares], [*shares.values()])[0]
        world, form = WORLDS[name], rng.choice(forms)
        task = world.task
        interrupted = form == "continue"
        if interrupted:
            form = rng.choice(("r2p", "think"))
        staged = form in ("r2p", "retry", "think")
        template = BRIEF if brief and staged and rng.random() < brief else TEMPLATE
        sig = signature(task.name, form, template)
        if rng.random() < 0.3:
            sig = sig.with_instructions(self._instruction(sig.instructions))
        count = rng.choice((0, 0, 0, 1, 2, 3, 4)) if demos else 0
        if form == "think":  # DSPy shows no demos' thoughts
            count = 0
        *before, (case, shown, lesson) = [self._example(name, most_items) for _ in range(count + 1)]
        filled = [self._fields(world, form, template, *example) for example in before]
        fields = self._fields(world, form, template, case, shown, lesson)
        messages = _ADAPTER.format(sig, filled, {name: fields[name] for name in sig.input_fields})
        if form == "think":
            messages[0]["content"] += f"\n\n{guide(template)}"
        row = [Turn(m["role"], m["content"], m["role"] != "system") for m in messages]
        exercise = (task, sig, form, template, shown, lesson)
        text, given = written(sig, form, lesson, fields, template), ""
        if form == "retry" or (form == "think" and not interrupted and rng.random() < 0.25):
            wrong = self._failed(exercise)
            row += [Turn(m["role"], m["content"]) for m in turns(_ADAPTER, sig, *wrong)]
        if interrupted:
            given, text = self._interrupted(exercise, text)
        elif staged and hasty and rng.random() < hasty:
            guess = guessed(case, lesson)
            text = hurried(written(sig, form, guess, lesson_fields(task, form, guess)), form)
        return [*row, Turn("assistant", text, True, given)]

    def _fields(
        self, world: World, form: str, template: Template, case: Case, shown: Profile, lesson: Lesson
    ) -> dict[str, Any]:
        """The inputs and outputs of a case in a format."""
        task = world.task
        fields = {task.question: case.question, task.profile: shown, **lesson_fields(task, form, lesson, template)}
        if form == "synthesis":
            proposed, right = candidates(self.rng, world, case, shown, lesson, self.words)
            agreeing = f"candidates {' '.join(map(str, right))} hold" if right else "no candidate holds"
            fields["candidates"] = "\n".join(proposed)
            fields["comparison"] = f"{agreeing}, {lesson['verification'].reason}, so {lesson['answer']}."
        return fields

    def _example(self, name: str, most: int) -> tuple[Case, Profile, Lesson]:
        case = self.case(name)
        shown = self.shown(name, case, most)
        return case, shown, WORLDS[name].teach(case, shown)

    def _failed(self, exercise: _Exercise) -> tuple[str, str]:
        """A wrong attempt, and the checks' feedback on it."""
        task, sig, form, template, shown, lesson = exercise
        wrong, fault = corrupted(self.rng, task, shown, lesson, self.words)
        fields = lesson_fields(task, form, wrong, template)
        stages = {stage.name: wrong[stage.name] for stage in template.leaves()}
        text = _ADAPTER.format_assistant_message_content(sig, fields).rstrip("\n")
        error = None
        if fault == "missing":
            name = self.rng.choice([*fields])
            error = f"the field {name} is missing."
            text = text[: text.index(f"[[ ## {name} ## ]]")].rstrip("\n")
        outcome = Outcome(fields={task.answer: wrong["answer"]}, stages=stages, answers=(task.answer,), error=error)
        comment = feedback(judge(BUILT_IN, self._inputs(task, shown), outcome))
        return text, comment or "Check the answer against the history once more."

    def _interrupted(self, exercise: _Exercise, right: str) -> tuple[str, str]:
        """A beginning that the monitor corrected, or none where it noticed no fault, and its continuation."""
        rng, (task, sig, form, template, shown, lesson) = self.rng, exercise
        for _ in range(4):
            wrong, fault = corrupted(rng, task, shown, lesson, self.words)
            text = written(sig, form, wrong, lesson_fields(task, form, wrong, template), template)
            if fault in ("missing", "mixed"):
                text = disordered(rng, text, form, self.words)
            marks: StageMarks = ThoughtTags(template)
            if form == "r2p":
                marks = FieldMarkers({stage.name: stage.name for stage in template.leaves()}, (task.answer,))
            monitor = Monitor(marks, template, BUILT_IN, self._inputs(task, shown), max_interventions=1)
            if (correction := monitor(text)) is not None:
                stage = monitor.interventions[0].stage
                opened = marks.opening(stage, "").rstrip("\n").splitlines()[-1] + "\n"
                given = text[: correction.kept] + correction.note + correction.opening
                return given, right[right.index(opened) + len(opened) :].lstrip("\n")
        return "", right

    def _inputs(self, task: Task, shown: Profile) -> Inputs:
        return Inputs(fields={task.question: "", task.profile: shown}, items=shown)

    def _instruction(self, default: str) -> str:
        """An instruction as an optimizer might write it: the default with additions, or another one."""
        rng = self.rng
        advice = rng.choice(_ADVICE)
        loose = " ".join(rng.choice(self.words) for _ in range(rng.randint(5, 25))).capitalize() + "."
        return rng.choice(
            (f"{default} {advice}", advice, f"{loose} {default}", f"{default}\n\n{advice} {loose}", loose)
        )


_ADVICE = (
    "Read the history first, then decide as the user would.",
    "Cite the items that matter and copy their words exactly.",
    "You are an expert at personalization. Think about what this user cares about and answer in the given format.",
    "Given the input and the history of one user, produce the fields below, each with care.",
    "Use only the history of this user. Do not invent items, quotes or labels.",
    "Find the details of the input that also occur in the history, compare the labels, and follow the user's habits.",
)


def lesson_fields(task: Task, form: str, lesson: Lesson, template: Template = TEMPLATE) -> dict[str, Any]:
    """The output fields of a lesson in a format."""
    fields = {task.answer: lesson["answer"]}
    if form == "cot":
        return {"reasoning": lesson["reasoning"], **fields}
    if form in ("plain", "think", "synthesis"):
        return fields
    return {stage.name: lesson[stage.name] for stage in template.leaves()} | fields


def written(
    sig: type[dspy.Signature], form: str, lesson: Lesson, fields: Mapping[str, Any], template: Template = TEMPLATE
) -> str:
    """A lesson as the model writes it."""
    outputs = {name: fields[name] for name in sig.output_fields}
    text = _ADAPTER.format_assistant_message_content(sig, outputs).rstrip("\n")
    return f"{OPEN}\n{render(template, lesson)}\n{CLOSE}\n\n{text}" if form == "think" else text
