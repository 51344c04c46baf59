"""The stretches of a steered answer, in process: each a row that goes on where the one before was cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from r2p_dspy.engines.answer import Decode, TextStream
from r2p_dspy.engines.batching import Batcher
from r2p_dspy.engines.rows import Row

Piece = tuple[list[int], str]  # token ids, and what they are in the answer: a note's are nothing


class LocalLeg:
    """One row of a steered answer.

    Args:
        batch: where it runs; the row is submitted at once.
        row: its prompt ends with what stands of the answer already.
        decode, encode: token ids to text, and back.
        began: what stands already.
        earlier: prompt tokens and generated tokens of the legs before.
    """

    def __init__(
        self,
        batch: Batcher,
        row: Row,
        decode: Decode,
        encode: Callable[[str], list[int]],
        began: tuple[Piece, ...] = (),
        earlier: tuple[int, int] = (0, 0),
    ) -> None:
        self._batch, self._decode, self._encode = batch, decode, encode
        self._began, self._earlier = began, earlier
        self.row = batch.submit(row)

    @property
    def used(self) -> tuple[int, int]:
        """Prompt tokens and generated tokens of all legs so far, with those that were thrown away."""
        return self._earlier[0] + len(self.row.prompt), self._earlier[1] + self.row.generated

    def __iter__(self) -> Iterator[str]:
        text = TextStream(self._decode)
        for token in self.row:
            if piece := text.push(token):
                yield piece
        if piece := text.finish():
            yield piece

    def stop(self) -> None:
        self.row.cancel()
        self.row.wait()

    def onward(self, kept: int, note: str, opening: str) -> LocalLeg | None:
        began: list[Piece] = []
        for ids, text in (*self._began, (self.row.tokens, self._decode(self.row.tokens))):
            if kept <= 0:
                break
            began.append((ids, text) if len(text) <= kept else self._cut(ids, text, kept))
            kept -= len(text)
        began += [(self._encode(text), shown) for text, shown in ((note, ""), (opening, opening)) if text]
        row = self.row
        asked = row.prompt[: len(row.prompt) - sum(len(ids) for ids, _ in self._began)]
        prompt = asked + [token for ids, _ in began for token in ids]
        # What was thrown away counts, so that no answer takes more than it was given.
        limit = min(row.limit - row.generated, row.limit + len(row.prompt) - len(prompt))
        if limit < 1:
            return None
        return LocalLeg(
            self._batch, row.onward(prompt, limit), self._decode, self._encode, tuple(began), earlier=self.used
        )

    def _cut(self, ids: list[int], text: str, kept: int) -> Piece:
        """The first `kept` characters: whole tokens as they were generated, the rest of them encoded anew."""
        whole, head = 0, ""
        for count in range(1, len(ids) + 1):
            so_far = self._decode(ids[:count])
            if len(so_far) > kept:
                break
            if text.startswith(so_far):  # no half character at its end
                whole, head = count, so_far
        rest = text[len(head) : kept]
        return ids[:whole] + (self._encode(rest) if rest else []), text[:kept]
