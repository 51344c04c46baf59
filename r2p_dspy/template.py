"""The hierarchical reasoning template: an ordered tree of typed stages (paper, section on HRT)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, field_validator

from r2p_dspy.errors import ConfigError
from r2p_dspy.values.folding import fold

# The number of an item in a prompt, as models write it: 1, "1", [1], #1, item 1.
_ITEM_NUMBER = re.compile(r"[\s\[(#\"'“‘]*(?:item[\s#:]*)?(\d+)[\s\])\"'”’.:,]*", re.IGNORECASE)


def _item_id(value: Any) -> Any:
    """An item's id from what a model wrote."""
    number = _ITEM_NUMBER.fullmatch(value) if isinstance(value, str) else None
    if number is not None:
        return fold(number[1])
    return str(value) if isinstance(value, int) else value


class Evidence(BaseModel):
    """A cited item: its id as the prompt shows it, and a quote that stands in it."""

    item: str
    quote: str

    @field_validator("item", mode="before")
    @classmethod
    def _id(cls, value: Any) -> Any:
        return _item_id(value)


class Preference(BaseModel):
    """What the user prefers, the ids of the items that show it, and the label that those items bear, if it is one."""

    statement: str
    items: list[str]
    label: str | None = None

    @field_validator("items", mode="before")
    @classmethod
    def _ids(cls, value: Any) -> Any:
        return [_item_id(item) for item in value] if isinstance(value, list) else value

    @field_validator("label", mode="before")
    @classmethod
    def _label(cls, value: Any) -> Any:
        if isinstance(value, str) and fold(value).strip(" .'") in ("", "none", "null"):
            return None
        return str(value) if isinstance(value, int | float) else value


class Verification(BaseModel):
    """Whether the draft stands, and why."""

    approved: bool
    reason: str


@dataclass(frozen=True)
class Stage:
    """One step of the reasoning.

    Args:
        name: an identifier, unique in its template.
        instruction: what the model does in this stage, in one sentence.
        type: the type of the stage's value; None for a stage that only groups others.
        stages: the stages in this group.

    Raises:
        ConfigError: the name is no identifier, or the stage has both a type and stages, or neither.
    """

    name: str
    instruction: str
    type: Any = None
    stages: tuple["Stage", ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name.startswith("_"):
            raise ConfigError(f"a stage's name must be an identifier that starts with a letter, not {self.name!r}")
        if (self.type is None) == (not self.stages):
            raise ConfigError(f"stage {self.name!r} must have either a type or stages")


@dataclass(frozen=True)
class Template:
    """An ordered tree of stages; the model writes the leaves, in order.

    Args:
        stages: the top level of the tree; without any, the model answers without reasoning.

    Raises:
        ConfigError: two stages have the same name.

    Examples:
        >>> [stage.name for stage in TEMPLATE.leaves()]
        ['requirements', 'evidence', 'preferences', 'draft', 'verification']
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        names = [stage.name for stage, _ in self.walk()]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two stages of the template are named {name!r}; rename one of them")

    def walk(self) -> Iterator[tuple[Stage, tuple[str, ...]]]:
        """Every stage, parents before children, each with the names of the groups around it."""

        def below(stages: tuple[Stage, ...], path: tuple[str, ...]) -> Iterator[tuple[Stage, tuple[str, ...]]]:
            for stage in stages:
                yield stage, path
                yield from below(stage.stages, (*path, stage.name))

        return below(self.stages, ())

    def ending_with(self, leaf: str) -> list[str]:
        """The names of the stages that end when a leaf ends: the leaf, and every group of which it is the last.

        Examples:
            >>> TEMPLATE.ending_with("verification")
            ['respond', 'verification']
        """

        def last(stage: Stage) -> str:
            return last(stage.stages[-1]) if stage.stages else stage.name

        return [stage.name for stage, _ in self.walk() if last(stage) == leaf]

    def leaves(self) -> list[Stage]:
        """The stages that have a value, in the order in which the model writes them."""
        return [stage for stage, _ in self.walk() if not stage.stages]


TEMPLATE = Template(
    stages=(
        Stage(
            "analyse",
            "Understand what is asked.",
            stages=(Stage("requirements", "What the input asks for, and which of its details matter.", str),),
        ),
        Stage(
            "synthesise",
            "Find out what this user prefers.",
            stages=(
                Stage(
                    "evidence",
                    "The items of the history that bear on it: each item's id and a short quote, word for word.",
                    list[Evidence],
                ),
                Stage(
                    "preferences",
                    "What these items show that the user prefers; each with the ids of its items, and their label if "
                    "it is about one.",
                    list[Preference],
                ),
            ),
        ),
        Stage(
            "respond",
            "Answer as this user would.",
            stages=(
                Stage("draft", "The answer that follows from the preferences.", str),
                Stage("verification", "Whether the draft agrees with the evidence, and why.", Verification),
            ),
        ),
    )
)

# The middle group alone: evidence and preferences, then the answer.
BRIEF = Template(stages=(TEMPLATE.stages[1],))
# What tuning chooses from, and the pocket model was trained on.
TEMPLATES: Mapping[str, Template] = MappingProxyType({"full": TEMPLATE, "brief": BRIEF})


def _plan(purpose: str, points: str) -> Template:
    """Evidence, then the points of a long answer. They are preferences, so the checks hold each to the evidence."""
    evidence = TEMPLATE.stages[1].stages[0]
    return Template((Stage("plan", purpose, stages=(evidence, Stage("preferences", points, list[Preference]))),))


# Planning as LaMP-QA's baseline does: first what the answer should cover.
ASPECTS = _plan(
    "Find out what this user expects of the answer.",
    "The aspects that this user expects the answer to cover, the most important first; each with the ids of the items "
    "that show it.",
)
# For long texts, which the draft of `TEMPLATE` would double.
OUTLINE = _plan(
    "Find out how this user would write the answer.",
    "An outline: what this user would say, in order, a few words for each point; each with the ids of the items that "
    "show it.",
)
# Quotes, then the answer: for models that are too small to say what they see in them.
QUOTES = Template(stages=(TEMPLATE.stages[1].stages[0],))
# Plain prediction, for students of the answers alone.
NO_STAGES = Template(stages=())
WITH_PLAIN: Mapping[str, Template] = MappingProxyType(
    {**TEMPLATES, "outline": OUTLINE, "aspects": ASPECTS, "evidence": QUOTES, "none": NO_STAGES}
)
