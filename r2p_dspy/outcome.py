"""What a check sees: the inputs as the model saw them, and the outcome, typed, whichever carrier it came on."""

from typing import Any

from pydantic import BaseModel, Field, SerializeAsAny

from r2p_dspy.profile import Profile


class _Fields(BaseModel):
    """Attribute access to `fields`, which a user's own names always win."""

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        return super().__getattr__(name)  # type: ignore[misc]


class Inputs(_Fields):
    """What the model was given.

    Args:
        fields: the signature's input fields by name; each is an attribute too.
        items: the items *as rendered* (see `Profile.local`).
        labels: the answers that the signature allows, or () for free text.
    """

    fields: dict[str, Any]
    items: Profile = Field(default_factory=Profile)
    labels: tuple[str, ...] = ()


class Outcome(_Fields):
    """What a run yielded.

    Args:
        fields: the signature's own output fields by name; each is an attribute too.
        stages: the template's stages by name, typed; each is an attribute too, unless a field has that name.
        order: the stages' names in the order in which they were written; empty where that is not known.
        answers: the names of the signature's output fields.
        predictors: of a program with several predictors, each one's last outputs by its name, so that a check can hold
            them against each other; empty for a template's outcome.
        error: why the text could not be read, or None.

    Example:
        >>> Outcome(fields={"tag": "comedy"}, stages={"draft": "comedy"}, answers=("tag",)).draft
        'comedy'
    """

    fields: dict[str, SerializeAsAny[Any]] = Field(default_factory=dict)
    stages: dict[str, SerializeAsAny[Any]] = Field(default_factory=dict)
    order: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    predictors: dict[str, dict[str, SerializeAsAny[Any]]] = Field(default_factory=dict)
    error: str | None = None

    def __getattr__(self, name: str) -> Any:
        stages = self.__dict__.get("stages", {})
        if name in stages and name not in self.__dict__.get("fields", {}):
            return stages[name]
        return super().__getattr__(name)
