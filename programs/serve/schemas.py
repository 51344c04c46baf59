"""Requests and answers as types, made from a program's signature: what OpenAPI shows, and what requests are read by."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator
from pydantic.fields import FieldInfo

from programs.data.values import repair_text
from programs.tasks.task import Task
from r2p_dspy.profile import Profile
from r2p_dspy.values.typed import as_text, plain

User = Annotated[str, Field(min_length=1, max_length=400, examples=["ada"])]


class Evidence(BaseModel):
    """A cited item of the user's, under its own id, and a quote that stands in it."""

    item: str
    quote: str


class Preference(BaseModel):
    """What the user prefers, and the items that show it."""

    statement: str
    items: list[str]
    label: str | None = None


class Violation(BaseModel):
    """A check that the answer leaves unmet; an unmet assert is a reason not to use it."""

    check: str
    kind: Literal["assert", "suggest"]
    message: str


class Usage(BaseModel):
    """What the answer cost."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inputs: Any
    user: User | None = Field(default=None, description="whose history to read from the store")
    profile: list[Any] | None = Field(default=None, description="the history itself; it wins over the store's")
    stream: bool = Field(default=False, description="send each stage as it is written, as server-sent events")

    @model_validator(mode="after")
    def _has_history(self) -> "_Request":
        if self.user is None and self.profile is None:
            raise ValueError('name a "user" of the store, or send a "profile"')
        return self


def _not_blank(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("it is blank")
    return repaired(value)


def repaired(value: Any) -> Any:
    """A text without halves of characters, which JSON can hold and no model takes; any other value as it is."""
    return repair_text(value) if isinstance(value, str) else value


def _label(value: Any) -> Any:
    return as_text(value) if isinstance(value, int | float) else value  # a rating may be a number


_Text = Annotated[str, AfterValidator(repaired)]


class Schemas:
    """The types of a program's requests and answers.

    Args:
        name: of the program.
        task: its signature, and the names of an item's texts and label.

    Examples:
        >>> from programs.tasks.lamp2 import TASK
        >>> request = Schemas("lamp2", TASK).request.model_validate(
        ...     {"inputs": {"description": "A storm."}, "profile": [{"description": "A diver.", "tag": "romance"}]}
        ... )
        >>> print(Schemas("lamp2", TASK).profile(request.profile))
        {"item": "1", "description": "A diver.", "label": "romance"}
    """

    def __init__(self, name: str, task: Task) -> None:
        self._task = task
        base = "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
        fields = task.signature.input_fields
        inputs = {key: _field(key, fields[key], blank=False) for key in task.inputs}
        self.inputs = _model(f"{base}Inputs", inputs, "forbid")
        texts: dict[str, Any] = {key: (_Text, Field(default="", alias=key)) for key in task.fields}
        if task.label is not None:
            label: Any = Literal[task.labels]  # type: ignore[valid-type]  # labels are known when the task is
            texts[task.label] = (
                Annotated[label | None, BeforeValidator(_label)],
                Field(default=None, alias=task.label),
            )
        texts["id"] = (str | int | None, Field(default=None, alias="id", description="default: its place, from 1"))
        texts["date"] = (str | None, Field(default=None, alias="date", examples=["2026-05-01"]))
        self.item = _model(f"{base}Item", texts, "ignore")
        items: Any = list[self.item] | None  # type: ignore[name-defined]  # a type that is made here
        about = _Request.model_fields["profile"].description
        asked: dict[str, Any] = {
            "inputs": (self.inputs, ...),
            "profile": (items, Field(default=None, description=about)),
        }
        self.request = create_model(f"{base}Request", __base__=_Request, **asked)
        outputs = {key: _field(key, info) for key, info in task.signature.output_fields.items()}
        self.outputs = _model(f"{base}Outputs", outputs, "ignore")
        self.answer = create_model(
            f"{base}Answer",
            id=(str, Field(description="what POST /v1/feedback names")),
            program=(str, ...),
            outputs=(self.outputs, ...),
            evidence=(list[Evidence], ...),
            preferences=(list[Preference], ...),
            violations=(list[Violation], ...),
            warnings=(list[str], ...),
            usage=(Usage, ...),
        )

    def values(self, inputs: BaseModel) -> dict[str, Any]:
        """A request's inputs by name, typed."""
        return _values(inputs)

    def profile(self, items: list[BaseModel]) -> Profile:
        """A request's items as a profile; `ConfigError` for two of one id."""
        return Profile.of([self.entry(item) for item in items])

    def entry(self, item: BaseModel) -> dict[str, Any]:
        """An item of a request as `Profile.of` reads it."""
        values = _values(item)
        own = {name: value for name in ("id", "date") if (value := values.pop(name)) is not None}
        label = None if self._task.label is None else values.pop(self._task.label)
        return {**own, "fields": values, **({} if label is None else {"label": label})}


def _model(name: str, fields: Mapping[str, Any], extra: Literal["forbid", "ignore"]) -> type[BaseModel]:
    """A model whose fields have these aliases; names of its own could clash with pydantic's methods."""
    numbered: Any = {f"f{number}": field for number, field in enumerate(fields.values())}
    return create_model(name, __config__=ConfigDict(extra=extra, arbitrary_types_allowed=True), **numbered)


def _field(name: str, info: FieldInfo, blank: bool = True) -> tuple[Any, Any]:
    extra: Any = info.json_schema_extra or {}
    kind = info.annotation if blank else Annotated[info.annotation, AfterValidator(_not_blank)]  # type: ignore[valid-type]
    return kind, Field(default=..., alias=name, description=extra.get("desc"))


def _values(model: BaseModel) -> dict[str, Any]:
    return {str(info.alias): getattr(model, name) for name, info in type(model).model_fields.items()}


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Typed values as plain JSON."""
    return {name: plain(value) for name, value in values.items()}
