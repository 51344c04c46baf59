"""Training rows: conversations in every format that the pocket model meets, made by DSPy's own adapter.

As long as no single format is asked for, they come in equal numbers: plain prediction, chain of thought, R2P on fields,
and R2P's retry after feedback; each with and without demos, with the default instruction and with others.
"""

import json
import random
from dataclasses import dataclass
from functools import cache

import dspy

from finetune.pocket.teach import TEACHERS, Lesson
from programs import lamp2, lamp3, lamp4
from programs.personas import films, products
from programs.personas.world import ROLES, Case, Draw, history
from programs.task import Task
from r2p_dspy.checks import BUILT_IN, feedback, judge
from r2p_dspy.outcome import Inputs, Outcome
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval import BM25
from r2p_dspy.retry import turns
from r2p_dspy.signature import extend
from r2p_dspy.template import TEMPLATE, Preference

FORMATS = ("plain", "cot", "r2p", "retry")
TASKS: dict[str, Task] = {task.name: task for task in (lamp2.TASK, lamp3.TASK, lamp4.TASK)}
_SHARES = {"lamp2": 0.55, "lamp3": 0.35, "lamp4": 0.10}
_ADAPTER = dspy.ChatAdapter()


@dataclass(frozen=True)
class Turn:
    """One message of a conversation, and whether the model learns to write it (of a user's, the labels of items)."""

    role: str
    content: str
    learn: bool = False


@cache
def signature(task: str, form: str) -> type[dspy.Signature]:
    """The signature that a program of this format gives to its predictor."""
    plain = TASKS[task].signature
    if form == "plain":
        return plain
    if form == "cot":
        return dspy.ChainOfThought(plain).predict.signature
    return extend(plain, TEMPLATE).signature


class Rows:
    """An endless stream of conversations about personas of the role `pocket`.

    Args:
        words: real English words, for the headline rows, whose texts are random words.
        seed: two streams with one seed are equal.
        role: whose personas; `pocket` for training.
    """

    def __init__(self, words: list[str], seed: int, role: str = "pocket"):
        self.words = words
        self.rng = random.Random(f"rows {seed}")
        self.role = role

    def case(self, task: str) -> Case:
        """A case of a persona that the commands never draw."""
        persona = self.rng.randrange(1_000_000 // len(ROLES)) * len(ROLES) + ROLES.index(self.role)
        makers: dict[str, Draw] = {"lamp2": films.case, "lamp3": products.case, "lamp4": self._headline}
        return makers[task](persona, random.Random(f"{makers[task].__module__} {persona}"))

    def _headline(self, persona: int, rng: random.Random) -> Case:
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
        return Case(persona, article, items, answer, answer, (), extra={"words": count})

    def shown(self, task: Task, case: Case, most: int) -> Profile:
        """The items that a prompt shows: BM25's mostly, in their order or shuffled, sometimes random ones or none."""
        rng = self.rng
        profile = history(task, case)
        k = min(most, rng.choice((4, 4, 4, 4, 4, 3, 2, 5, 6, 1)))
        kind = rng.random()
        if kind < 0.02:
            return Profile()
        if kind < 0.10:
            return Profile(items=rng.sample(profile.items, min(k, len(profile)))).local()
        if kind < 0.13:
            return self.shown(task, self.case(task.name), most)
        ranked = BM25(k=k, text=task.item_text)(case.question, profile).items
        if rng.random() < 0.5:
            rng.shuffle(ranked)
        return Profile(items=ranked).local()

    def row(self, most_items: int = 6, demos: bool = True, forms: tuple[str, ...] = FORMATS) -> list[Turn]:
        """One conversation.

        Args:
            most_items: how many items an example shows at most; small ones come first in the curriculum.
            demos: whether some rows carry demos.
            forms: some of `FORMATS`, drawn evenly.
        """
        rng = self.rng
        name = rng.choices([*_SHARES], [*_SHARES.values()])[0]
        task, form = TASKS[name], rng.choice(forms)
        asked = signature(name, form)
        if rng.random() < 0.3:
            asked = asked.with_instructions(self._instruction(asked.instructions))
        count = rng.choice((0, 0, 0, 1, 2, 3, 4)) if demos else 0
        examples = [self._example(task, most_items) for _ in range(count + 1)]
        *before, (case, shown, lesson) = examples
        inputs = {task.question: case.question, task.profile: shown}
        filled = [
            {task.question: c.question, task.profile: s, **lesson_fields(task, form, one)} for c, s, one in before
        ]
        messages = _ADAPTER.format(asked, filled, inputs)
        row = [Turn(m["role"], m["content"], m["role"] != "system") for m in messages]
        fields = lesson_fields(task, form, lesson)
        right = _ADAPTER.format_assistant_message_content(asked, fields)
        if form == "retry":
            row += self._failed(task, asked, shown, lesson)
        return [*row, Turn("assistant", right.rstrip("\n"), True)]

    def drill(self, kinds: tuple[str, ...], most: int = 3, known: int = 30) -> list[Turn]:
        """Citing and nothing else, from items of random words.

        Args:
            kinds: of which one is drawn: `copy` an item's words by its id, `label`: likewise its label, `tell` whose
                words these are, `find` the item of a word, `judge` what a label is about.
            most: items shown at most.
            known: how many settings and figures there are to judge between.
        """
        rng, kind = self.rng, self.rng.choice(kinds)
        if kind == "judge":
            return self._judge(known)
        common = self.words[:4000]
        texts = [" ".join(rng.choice(common) for _ in range(rng.randint(4, 6))) for _ in range(rng.randint(2, most))]
        name = rng.choice(("text", "description", "title"))
        items = [{"id": str(n), name: text} for n, text in enumerate(texts)]
        if kind == "label":
            labels = rng.choice((*(task.labels for task in TASKS.values() if task.labels), common))
            labelled = [{**item, "label": rng.choice(labels)} for item in items]
            return self._label(Profile.model_validate(labelled).local())
        shown = Profile.model_validate(items).local()
        return self._copy(shown) if kind == "copy" else self._find(shown, 1 if kind == "find" else 3)

    def _judge(self, known: int) -> list[Turn]:
        """Film upon film: whether its label fits the setting or the figure, where it fits only one of them.

        Half of the rows say little more than the three words, so that many films fit into a step.
        """
        rng = self.rng
        row: list[Turn] = []
        short = rng.random() < 0.5
        while len(row) < (40 if short else 12):
            words = {kind: rng.choice([*films.PLAUSIBLE[kind]][:known]) for kind in films.KINDS}
            focus = rng.choice(films.KINDS)
            tag = rng.choice(films.PLAUSIBLE[focus][words[focus]])
            if sum(tag in films.PLAUSIBLE[kind][word] for kind, word in words.items()) == 1:
                brief = " and ".join(rng.sample([*words.values()], 2))
                item = Item(
                    id=str(rng.randint(1, 6)),
                    fields={"description": films.describe(words["setting"], words["figure"], rng)},
                    label=tag,
                )
                asked = f"{brief}: {tag}" if short else str(item)
                row += [Turn("user", asked, True), Turn("assistant", f"the {focus} decides", True)]
        return row

    def _label(self, shown: Profile) -> list[Turn]:
        """Item upon item: its label, as a preference cites it."""
        row: list[Turn] = []
        before = f"{shown}\n\n"
        for item in (self.rng.choice(shown.items) for _ in range(8)):
            cited = Preference(statement=f"item {item.id}", items=[item.id], label=item.label)
            row += [Turn("user", f"{before}item {item.id}"), Turn("assistant", json.dumps([cited.model_dump()]), True)]
            before = ""
        return row

    def _copy(self, shown: Profile) -> list[Turn]:
        """Quotes of all items by id, in another order."""
        rng, quotes = self.rng, []
        for item in rng.sample(shown.items, len(shown)):
            words = item.text.split()
            start = rng.choice((0, 0, rng.randrange(len(words) - 2)))
            quotes.append({"item": item.id, "quote": " ".join(words[start : start + 3])})
        return [Turn("user", str(shown)), Turn("assistant", json.dumps(quotes), True)]

    def _find(self, shown: Profile, length: int) -> list[Turn]:
        """Question upon question: words that stand inside an item, and that item's id.

        They are not taken from a text's beginning, where a word is made of other tokens. Three words lead to the item
        by copying alone, so that only its id is to be learnt; one word must be looked for. Nothing else is learnt here.
        """
        rng = self.rng
        row: list[Turn] = []
        everywhere = [word for item in shown for word in item.text.split()]
        before = f"{shown}\n\n"
        while len(row) < 16:
            item = rng.choice(shown.items)
            words = item.text.split()
            start = rng.randrange(1, len(words) - length + 1)
            if everywhere.count(words[start]) == 1:
                asked = f"{before}about {' '.join(words[start : start + length])}"
                row += [Turn("user", asked), Turn("assistant", f'[{{"item": "{item.id}', True)]
                before = ""
        return row

    def _example(self, task: Task, most: int) -> tuple[Case, Profile, Lesson]:
        case = self.case(task.name)
        shown = self.shown(task, case, most)
        return case, shown, TEACHERS[task.name](case, shown)

    def _failed(self, task: Task, asked: type[dspy.Signature], shown: Profile, lesson: Lesson) -> list[Turn]:
        """A wrong attempt and the feedback that the checks give to it."""
        rng = self.rng
        stages = {stage.name: lesson[stage.name] for stage in TEMPLATE.leaves()}
        fields = {task.answer: lesson["answer"]}
        error = None
        fault = rng.choice(("item", "quote", "quote", "label", "backing", "uncited", "answer", "missing", "mixed"))
        evidence = [one.model_copy() for one in stages["evidence"]]
        preferences = [one.model_copy() for one in stages["preferences"]]
        if fault in ("item", "mixed") and evidence:
            rng.choice(evidence).item = str(rng.randint(len(shown) + 1, 9))
        if fault in ("quote", "mixed") and evidence:
            one = rng.choice(evidence)
            one.quote = self._misquote(one.quote, shown)
        labelled = [one for one in preferences if one.label]
        if fault in ("label", "mixed") and labelled and task.labels:
            rng.choice(labelled).label = rng.choice(task.labels)
        if fault == "backing" and preferences:
            rng.choice(preferences).items = [str(rng.randint(1, 9))]
        if fault == "uncited":
            evidence = []
        if fault == "answer":
            fields[task.answer] = rng.choice(task.labels) if task.labels else " ".join(rng.sample(self.words, 5))
        stages |= {"evidence": evidence, "preferences": preferences}
        text = _ADAPTER.format_assistant_message_content(asked, stages | fields).rstrip("\n")
        if fault == "missing":
            name = rng.choice([*stages, task.answer])
            error = f"the field {name} is missing."
            text = text[: text.index(f"[[ ## {name} ## ]]")].rstrip("\n")
        items = {task.question: "", task.profile: shown}
        outcome = Outcome(fields=fields, stages=stages, answers=(task.answer,), error=error)
        said = feedback(judge(BUILT_IN, Inputs(fields=items, items=shown), outcome))
        if not said:
            said = "Check the answer against the history once more."
        return [Turn(m["role"], m["content"]) for m in turns(_ADAPTER, asked, text, said)]

    def _misquote(self, quote: str, shown: Profile) -> str:
        rng = self.rng
        if rng.random() < 0.5:
            words = rng.choice(shown.items).text.split()
            start = rng.randrange(max(1, len(words) - 2))
            return " ".join(words[start : start + 3])
        words = quote.split()
        words[rng.randrange(len(words))] = rng.choice(self.words)
        return " ".join(words)

    def _instruction(self, default: str) -> str:
        """An instruction as an optimizer might write it: the default, dressed or replaced."""
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


def lesson_fields(task: Task, form: str, lesson: Lesson) -> dict[str, object]:
    """The output fields of a lesson in a format."""
    fields = {task.answer: lesson["answer"]}
    if form == "cot":
        return {"reasoning": lesson["reasoning"], **fields}
    if form == "plain":
        return fields
    return {stage.name: lesson[stage.name] for stage in TEMPLATE.leaves()} | fields
