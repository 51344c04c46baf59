"""The stretches of a steered answer, in process: each a row that goes on where the one before was cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

from r2p_dspy.engines.answer import Decode, TextStream
from r2p_dspy.engines.local.batching import Batcher
from r2p_dspy.engines.local.rows import Row

_GLANCE = 16  # tokens after which the text is read in any case

Piece = tuple[list[int], str]  # token ids, and what they are in the answer: a note's are nothing


class LocalSegment:
    """One row of a steered answer.

    Args:
        batch: where it runs; the row is submitted at once.
        row: its prompt ends with what stands of the answer already.
        decode, encode: token ids to text, and back.
        marks: whether a token may end a mark, so that the text is to be read at once.
        began: what stands already.
        earlier: prompt tokens and generated tokens of the legs before.
    """

    def __init__(
        self,
        batch: Batcher,
        row: Row,
        decode: Decode,
        encode: Callable[[str], list[int]],
        marks: Callable[[int], bool],
        began: tuple[Piece, ...] = (),
        earlier: tuple[int, int] = (0, 0),
    ) -> None:
        self._batch, self._decode, self._encode = batch, decode, encode
        self._marks, self._began, self._earlier = marks, began, earlier
        self._read = 0  # tokens that the reader has seen, which unlike those generated do not depend on its speed
        self._waiting: list[int | None] = []
        self._arrived: SimpleQueue[list[int | None]] = SimpleQueue()
        row.tell = self._take
        self.row = batch.submit(row)

    @property
    def used(self) -> tuple[int, int]:
        """Prompt tokens and generated tokens of all legs so far, with those that were thrown away."""
        return self._earlier[0] + len(self.row.prompt), self._earlier[1] + self.row.generated

    def __iter__(self) -> Iterator[str]:
        text, over = TextStream(self._decode), False
        while not over:
            try:
                tokens = self._arrived.get(timeout=self.row.timeout)
            except Empty:
                raise TimeoutError(f"no token within {self.row.timeout:g} s") from None
            over = tokens[-1] is None
            self._read += len(tokens)
            piece = "".join(text.finish() if token is None else text.push(token) for token in tokens)
            if piece:
                yield piece
        self.row.wait()  # it is over; raises what failed it

    def _take(self, token: int | None) -> None:
        """In the model's thread: waking a reader for every token would cost as much as the token."""
        self._waiting.append(token)
        if token is None or len(self._waiting) >= _GLANCE or self._marks(token):
            self._arrived.put(self._waiting)
            self._waiting = []

    def stop(self) -> None:
        self.row.cancel()
        self.row.wait()

    def resume(self, kept: int, note: str, opening: str) -> LocalSegment | None:
        began: list[Piece] = []
        loose = ""  # what stays of a piece that was cut within a token
        for ids, text in (*self._began, (self.row.tokens, self._decode(self.row.tokens))):
            if kept <= 0:
                break
            whole, head = (ids, text) if len(text) <= kept else self._cut(ids, text, kept)
            began.append((whole, head))
            loose = text[len(head) : kept]
            kept -= len(text)
        # With the note after it, so that the tokens are those of the text, as the model has learnt to read it.
        own = ((loose + note, loose), (opening, opening))
        began += [(self._encode(text), shown) for text, shown in own if text]
        row = self.row
        asked = row.prompt[: len(row.prompt) - sum(len(ids) for ids, _ in self._began)]
        prompt = asked + [token for ids, _ in began for token in ids]
        # What was thrown away counts, so that no answer takes more than it was given.
        limit = min(row.limit - self._read, row.limit + len(row.prompt) - len(prompt))
        if limit < 1:
            return None
        return LocalSegment(
            self._batch,
            row.resume(prompt, limit),
            self._decode,
            self._encode,
            self._marks,
            tuple(began),
            earlier=self.used,
        )

    def _cut(self, ids: list[int], text: str, kept: int) -> Piece:
        """The whole tokens in the first `kept` characters."""
        whole, head = 0, ""
        for count in range(1, len(ids) + 1):
            so_far = self._decode(ids[:count])
            if len(so_far) > kept:
                break
            if text.startswith(so_far):  # no half character at its end
                whole, head = count, so_far
        return ids[:whole], head
