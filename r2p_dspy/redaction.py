"""Redact a compiled program: leave users' texts out of its file."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from r2p_dspy.artifact_file import Artifact
from r2p_dspy.values.words import Unit, units

REDACTED = "Demos and quotes were left out: this is not quite the program that the scores were measured on."
_QUOTE = 6  # this many words in a row that also stand in a user's text are a quote
_CHARACTERS_A_WORD = 2  # of a script without spaces

Words = tuple[str, ...]


def redacted(artifact: Artifact, texts: Iterable[str] = ()) -> Artifact:
    """Return the artifact without users' texts. It loads like any other, as a program without demos.

    Demos are left out. An optimizer may have quoted a user in the instructions: six or more words in a row that also
    stand in a demo or in `texts` become `[…]`. In scripts without spaces two characters count as a word.

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
    for predictor, left_out in zip(shared["predictors"].values(), demos, strict=True):
        predictor["left_out"] += len(left_out)
    return Artifact.model_validate(
        content | without_quotes(shared, chain(_texts(demos), texts)) | {"redacted": True, "warning": REDACTED}
    )


def without_quotes(data: Any, texts: Iterable[str]) -> Any:  # Any: a piece of JSON
    """Return a piece of JSON in which `[…]` stands for six or more words in a row that also stand in one of the texts.

    Examples:
        >>> without_quotes({"note": "He wrote: the sea was calm all night long."}, ["The sea was calm all night."])
        {'note': 'He wrote: […] long.'}
    """
    sequences = {sequence for text in _texts(data) for sequence in _sequences(text)}
    quotes = {sequence for text in texts for sequence in _sequences(text) if sequence in sequences}
    return _without(data, quotes) if quotes else data


def _sequences(text: str) -> Iterable[Words]:
    """Every six words in a row."""
    return (sequence for _, _, sequence in _placed_sequences(units(text)))


def _placed_sequences(found: Sequence[Unit]) -> Iterator[tuple[int, int, Words]]:
    """Every six words in a row, with the places of the first and behind the last."""
    wanted = _QUOTE * _CHARACTERS_A_WORD
    for start in range(len(found)):
        length, end = 0, start
        while length < wanted and end < len(found):
            length += 1 if found[end].unspaced else _CHARACTERS_A_WORD
            end += 1
        if length >= wanted:
            yield start, end, tuple(unit.text for unit in found[start:end])


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
    found = units(text)
    places = ((start, end) for start, end, sequence in _placed_sequences(found) if sequence in quotes)
    quoted = {index for start, end in places for index in range(start, end)}
    for index in sorted(quoted, reverse=True):  # from the end, so that the positions of earlier words stay right
        end = found[index + 1].start if index + 1 in quoted else found[index].end
        text = text[: found[index].start] + ("" if index - 1 in quoted else "[…]") + text[end:]
    return text
