"""Segments of a steered answer in this process: each is a row, which continues where the row before was cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from queue import SimpleQueue

from dspy.lm15 import Usage

from r2p_dspy.decoding.segments import Piece, ResumableSegment
from r2p_dspy.engines.answer import TextStream
from r2p_dspy.engines.chat import Chat
from r2p_dspy.engines.local.batching import Batcher
from r2p_dspy.engines.local.rows import Row

_READ_EVERY = 16  # tokens after which the text is read even without a mark


class LocalSegment(ResumableSegment[list[int]]):
    """One row of a steered answer, submitted at once. Its prompt ends with what stands of the answer already."""

    def __init__(self, batch: Batcher, row: Row, chat: Chat) -> None:
        self._batch, self._chat = batch, chat
        self._read = 0  # tokens that were read; unlike the generated ones, they do not depend on the reader's speed
        self._pending: list[int | None] = []
        self._arrived: SimpleQueue[list[int | None]] = SimpleQueue()
        row.emit = self._receive
        self._row = batch.submit(row)

    def __iter__(self) -> Iterator[str]:
        text, over = TextStream(self._chat.decode), False
        while not over:
            tokens = self._arrived.get()
            over = tokens[-1] is None
            self._read += len(tokens)
            piece = "".join(text.finish() if token is None else text.push(token) for token in tokens)
            if piece:
                yield piece
        self._row.wait()  # it has ended; this raises what failed it

    @property
    def row(self) -> Row:
        """The row that writes this segment."""
        return self._row

    def tokens(self) -> list[tuple[int, bool]]:
        """The tokens of the answer up to now, notes included, and of each whether the model wrote it."""
        began = [(token, piece.own) for piece in self._began for token in piece.content]
        return began + [(token, True) for token in self._row.tokens[: self._read]]  # it may have run ahead

    def _receive(self, token: int | None) -> None:
        """In the model's thread: waking the reader for every token would cost as much as the token."""
        self._pending.append(token)
        if token is None or len(self._pending) >= _READ_EVERY or self._chat.may_end_mark(token):
            self._arrived.put(self._pending)
            self._pending = []

    def stop(self) -> None:
        self._row.cancel()
        self._row.wait()
        self.finish = self._row.finish

    def _own_usage(self) -> Usage:
        usage = self._row.usage  # a stopped row may have run ahead of the reader, as the timing of threads was
        return replace(usage, output_tokens=min(self._read, usage.output_tokens or 0))

    def _own_passes(self) -> int:
        return self._row.forward_passes

    def _written(self) -> Iterable[tuple[list[int], str]]:
        return [(self._row.tokens, self._chat.decode(self._row.tokens))]

    def _encode(self, text: str) -> list[int]:
        return self._chat.encode_text(text)

    def _cut(self, content: list[int], shown: str, kept: int) -> Piece[list[int]]:
        """The whole tokens in the first `kept` characters."""
        whole, head = 0, ""
        for count in range(1, len(content) + 1):
            text = self._chat.decode(content[:count])
            if len(text) > kept:
                break
            if shown.startswith(text):  # no half character at its end
                whole, head = count, text
        return Piece(content[:whole], head)

    def _following(self, began: Sequence[Piece[list[int]]]) -> LocalSegment | None:
        row = self._row
        chat = row.prompt[: len(row.prompt) - sum(len(piece.content) for piece in self._began)]
        prompt = chat + [token for piece in began for token in piece.content]
        # Tokens that were thrown away count, so that no answer takes more than its limit.
        limit = min(row.limit - self._read, row.reserved - len(prompt))
        if limit < 1:
            return None
        shown = "".join(piece.shown for piece in began)
        constrained = None if row.constrained is None else row.constrained.resume(shown)
        return LocalSegment(self._batch, row.resume(prompt, limit, constrained), self._chat)
