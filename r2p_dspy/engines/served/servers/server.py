"""What steering and constraining need of a model server, whichever it is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from r2p_dspy.engines.chat import OPEN

Form: TypeAlias = Literal["grammar", "schema"]  # a grammar of llguidance's, or a JSON Schema


@dataclass(frozen=True)
class Prompt:
    """A chat as token ids, up to the beginning of the assistant's turn."""

    ids: list[int]
    inside: bool  # whether they end inside a thought
    context: int  # tokens that prompt and answer may have together


@dataclass(frozen=True)
class Chunk:
    """One event of a stream."""

    text: str  # new text; may be empty
    ids: list[int] | None  # the new tokens; None if the server does not report them
    finish: str | None  # why the answer has ended; None while it goes on
    generated: int  # tokens of the answer so far


class Server(Protocol):
    """A client of one server, safe to use from many threads; errors are those of `transport`.

    Answers are continued as token ids, not as messages: each chat template changes an unfinished assistant's message in
    its own way.
    """

    # Any: JSON.

    @property
    def url(self) -> str:
        """The server's address, without `/v1`."""

    @property
    def steers(self) -> bool:
        """Whether it may be able to steer; False once it has turned out to lack what that needs."""

    def prompt(self, model: str, messages: list[dict[str, str]], template: dict[str, Any]) -> Prompt:
        """The token ids of a chat by the model's own chat template; `template` holds the template's options.

        Raises:
            UnsupportedFeatureError: the server cannot render chats as token ids.
        """

    def context(self, model: str) -> int:
        """Tokens that prompt and answer may have together; the server is asked once."""

    def encode(self, model: str, text: str) -> list[int]:
        """The token ids of a text as the model would write it."""

    def stream(self, model: str, prompt: list[int], limit: int, options: dict[str, Any]) -> Generator[Chunk]:
        """What follows a prompt, up to `limit` tokens. Closing the stream stops the server's work."""

    def forms(self) -> Sequence[Form]:
        """What the server says that it can hold answers to, the best first; it is asked once."""

    def held_to(self, form: Form, value: str | dict[str, Any]) -> dict[str, Any]:
        """The options of a stream whose text follows a grammar, or a JSON Schema."""


def ends_inside(prompt: str) -> bool:
    """Whether the end of a prompt opens a thought."""
    return prompt.rstrip().endswith(OPEN)
