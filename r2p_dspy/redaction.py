"""Redact a compiled program: leave users' texts out of its file."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from r2p_dspy.artifact_file import Artifact

REDACTED = "Demos and quotes were left out: this is not quite the program that the scores were measured on."
_QUOTE = 6  # this many words in a row that also stand in a user's text are a quote
_WORD = re.compile(r"\w+")

Words = tuple[str, ...]


def redacted(artifact: Artifact, texts: Iterable[str] = ()) -> Artifact:
    """Return the artifact without users' texts. It loads like any other, as a program without demos.

    Demos are left out. An optimizer may have quoted a user in the instructions: six or more words in a row that also
    stand in a demo or in `texts` become `[…]`.

    Args:
        artifact: a compiled program. It is not changed.
        texts: what users wrote, in addition to the texts of the demos.

    Examples:
        >>> from r2p_dspy.artifact_file import Predictor
        >>> demo = {"film": "the keeper of a lighthouse finds a wreck", "tag": "sad"}
        >>> instructions = 'Films such as "the keeper of a lighthouse finds a wreck" are sad.'
        >>> reason = Predictor(instructions=instructions, inputs={"film": ""}, outputs={"tag": ""}, demos=[demo])
        >>> result = redacted(Artifact(task=None, template=[], predictors={"reason": reason}))
        >>> result.predictors["reason"].instructions, result.predictors["reason"].left_out
        ('Films such as "[…]" are sad.', 1)
    """
    content = artifact.model_dump()
    shared = {"notes": content["notes"], "predictors": content["predictors"]}
    demos = [predictor.pop("demos") for predictor in shared["predictors"].values()]
    sequences = {sequence for text in _texts(shared) for sequence in _sequences(text)}
    users = chain(_texts(demos), texts)
    quotes = {sequence for text in users for sequence in _sequences(text) if sequence in sequences}
    for predictor, left_out in zip(shared["predictors"].values(), demos, strict=True):
        predictor["left_out"] += len(left_out)
    return Artifact.model_validate(content | _without(shared, quotes) | {"redacted": True, "warning": REDACTED})


def _sequences(text: str) -> Iterable[Words]:
    """Every six words in a row."""
    words = _WORD.findall(text.casefold())
    return zip(*(words[start:] for start in range(_QUOTE)), strict=False)


def _texts(value: Any) -> Iterator[str]:  # Any: a piece of JSON
    """Yield every text in a piece of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _without(value: Any, quotes: set[Words]) -> Any:  # Any: a piece of JSON
    """Replace the quotes in every text of a piece of JSON."""
    if isinstance(value, dict):
        return {key: _without(part, quotes) for key, part in value.items()}
    if isinstance(value, list):
        return [_without(part, quotes) for part in value]
    return _without_quotes(value, quotes) if isinstance(value, str) else value


def _without_quotes(text: str, quotes: set[Words]) -> str:
    words = [*_WORD.finditer(text)]
    folded = [word[0].casefold() for word in words]
    starts = [start for start in range(len(words)) if tuple(folded[start : start + _QUOTE]) in quotes]
    quoted = {start + step for start in starts for step in range(_QUOTE)}
    for index in sorted(quoted, reverse=True):  # from the end, so that the positions of earlier words stay right
        end = words[index + 1].start() if index + 1 in quoted else words[index].end()
        text = text[: words[index].start()] + ("" if index - 1 in quoted else "[…]") + text[end:]
    return text
