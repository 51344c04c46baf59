"""The worlds that the pocket model learns: of each its task, its cases, its lessons and a typical error."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from finetune.pocket import teach, wording
from finetune.pocket.teach import Lesson
from programs.data.personas import MAKERS
from programs.data.personas.products import clamp
from programs.data.personas.world import Case, CaseMaker
from programs.tasks import lamp1, lamp2, lamp3, lamp4, lamp5, lamp7
from programs.tasks.task import Task
from r2p_dspy.profile import Profile


def _other_reference(rng: random.Random, case: Case) -> Case:
    topic, *methods = case.cues
    wrong = next(cue for cue in methods if cue.word != topic.value)
    return replace(case, cues=(replace(topic, value=wrong.word), *methods), answer=wrong.value)


def _other_detail(rng: random.Random, case: Case) -> Case:
    other = next(cue for cue in case.cues if cue.kind != case.focus)
    return replace(case, focus=other.kind, answer=other.value)


def _other_sign(rng: random.Random, case: Case) -> Case:
    wrong = rng.randrange(len(case.cues))
    cues = tuple(replace(cue, sign=-cue.sign) if at == wrong else cue for at, cue in enumerate(case.cues))
    return replace(case, cues=cues, answer=str(clamp(3 + sum(cue.sign * int(cue.value) for cue in cues))))


def _other_length(rng: random.Random, case: Case) -> Case:
    count = max(1, case.extra["words"] + rng.choice((-2, -1, 1, 2)))
    return replace(case, answer=" ".join(case.question.split()[:count]), extra={"words": count})


@dataclass(frozen=True)
class World:
    """What the pocket model learns of one task."""

    task: Task
    maker: CaseMaker | None  # None for cases of random words
    teach: Callable[[Case, Profile], Lesson]
    misread: Callable[[random.Random, Case], Case]  # as a reader sees it who errs in what decides


WORLDS = {
    "lamp1": World(lamp1.TASK, MAKERS["lamp1"], teach.lamp1, _other_reference),
    "lamp2": World(lamp2.TASK, MAKERS["lamp2"], teach.lamp2, _other_detail),
    "lamp3": World(lamp3.TASK, MAKERS["lamp3"], teach.lamp3, _other_sign),
    "lamp4": World(lamp4.TASK, MAKERS["lamp4"], wording.titled, wording.misworded),
    "lamp5": World(lamp5.TASK, MAKERS["lamp5"], wording.titled, wording.misworded),
    "lamp7": World(lamp7.TASK, MAKERS["lamp7"], wording.tweeted, wording.misworded),
    "words": World(lamp4.TASK, None, teach.words, _other_length),
}
TASKS: dict[str, Task] = {name: world.task for name, world in WORLDS.items() if world.maker is not None}
# Shares of the worlds: in the first two phases, and in the third.
FEW = {"lamp2": 0.55, "lamp3": 0.35, "words": 0.10}
ALL = {"lamp1": 0.14, "lamp2": 0.20, "lamp3": 0.16, "lamp4": 0.18, "lamp5": 0.16, "lamp7": 0.16}
