"""Cutting an answer and continuing it: what the model reads, and what the answer shows."""

import pytest
from dspy.lm15 import Usage

from r2p_dspy.decoding.segments import Piece, ResumableSegment


class TokenSegment(ResumableSegment[list[str]]):
    """Tokens are strings; a text that is encoded anew becomes one token for each character."""

    def __init__(self, written):
        self.written = written

    def __iter__(self):
        return iter(())

    def stop(self):
        pass

    @property
    def prompt(self):
        return [token for piece in self._began for token in piece.content]

    @property
    def shown(self):
        return "".join(piece.shown for piece in self._began)

    def write(self, *written):
        self.written = written
        return self

    def _own_usage(self):
        return Usage(input_tokens=len(self.prompt), output_tokens=sum(len(text) for _, text in self.written))

    def _written(self):
        return self.written

    def _encode(self, text):
        return list(text)

    def _cut(self, content, shown, kept):
        fits = max(count for count in range(len(content) + 1) if len("".join(content[:count])) <= kept)
        return Piece(content[:fits], "".join(content[:fits]))

    def _following(self, began):
        return TokenSegment(())


WHOLE = [(["ab", "cde", " f"], "abcde f")]
UNKNOWN = [(["ab"], "ab"), (None, "cde"), ([" f"], " f")]


@pytest.mark.parametrize(
    ("written", "kept", "tokens", "shown"),
    [
        (WHOLE, 7, ["ab", "cde", " f"], "abcde f"),
        (WHOLE, 5, ["ab", "cde"], "abcde"),
        (WHOLE, 4, ["ab", "c", "d"], "abcd"),
        (WHOLE, 1, ["a"], "a"),
        (WHOLE, 0, [], ""),
        (UNKNOWN, 7, ["ab", *"cde f"], "abcde f"),
        (UNKNOWN, 3, ["ab", "c"], "abc"),
        (UNKNOWN, 2, ["ab"], "ab"),
    ],
)
def test_kept_tokens_stay_and_the_rest_is_encoded(written, kept, tokens, shown):
    following = TokenSegment(written).resume(kept, "(N)", "so ")
    assert following.prompt == [*tokens, *"(N)", *"so "]
    assert following.shown == f"{shown}so "


@pytest.mark.parametrize(
    ("kept", "prompt"),
    [
        (2, ["ab", *"(M)", *"no"]),  # where the first note stood: it goes
        (4, ["ab", *"(N)", *"so", *"(M)", *"no"]),
        (6, ["ab", *"(N)", *"so", "xy", *"(M)", *"no"]),
    ],
)
def test_second_correction(kept, prompt):
    second = TokenSegment([(["ab", "cd"], "abcd")]).resume(2, "(N)", "so").write((["xy"], "xy"), (["z"], "z"))
    assert second.resume(kept, "(M)", "no").prompt == prompt


def test_usage_counts_discarded_tokens():
    second = TokenSegment(WHOLE).resume(2, "(N)", "so").write((["xy"], "xy"))
    assert (second.usage.input_tokens, second.usage.output_tokens) == (0 + len(second.prompt), 7 + 2)
