"""Answers that must follow a grammar: which tokens may come next, and which must."""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from r2p_dspy.decoding.constraining import Constraint
from r2p_dspy.engines.answer import Decode
from r2p_dspy.engines.local.vocabulary import Vocabulary
from r2p_dspy.errors import ConfigError

_KEPT_GRAMMARS = 64
_WORD = 32  # tokens of one number of a bit mask

# `Any` below stands for llguidance's classes: the package is imported when the first answer is constrained.


class Grammars:
    """Compiles grammars for the tokenizer of one model, and remembers the latest. Threads may share it.

    Args:
        tokenizer: of transformers, a fast one.
        vocabulary: the tokens that the model's logits are of.
        ends: ids of the tokens that end a turn.
        decode: from token ids to the text of an answer.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Iterable[int], decode: Decode) -> None:
        self._tokenizer, self._size, self._ends, self._decode = tokenizer, vocabulary, sorted(ends), decode
        self._known: OrderedDict[str, Future[Any]] = OrderedDict()
        self._lock = threading.Lock()  # of `_known`; nothing slow happens under it
        self._made: Any = None  # see `_tokens`
        self._making = threading.Lock()

    @property
    def missing(self) -> str | None:
        """What answers under a grammar lack here, on one line; None where nothing does."""
        if importlib.util.find_spec("llguidance") is None:
            return "answers under a grammar need llguidance: pip install llguidance"
        if not getattr(self._tokenizer, "is_fast", False):
            return "answers under a grammar need a fast tokenizer, and the model has none"
        try:
            self._tokens()
        except ConfigError as error:
            return str(error)
        return None

    def matcher(self, source: str) -> Any:
        """A matcher at the beginning of a grammar; raises ConfigError for a text that is none."""
        with self._lock:
            future = self._known.get(source)
            if is_new := future is None:
                future = self._known[source] = Future()
                if len(self._known) > _KEPT_GRAMMARS:
                    self._known.popitem(last=False)
            self._known.move_to_end(source)
        if is_new:  # calls that want the same grammar wait; the others, and the model, do not
            try:
                future.set_result(self._compile_grammar(source))
            except BaseException as cause:
                future.set_exception(cause)
                with self._lock:
                    self._known.pop(source, None)
        return future.result().deep_copy()

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of some tokens of an answer."""
        return self._decode(tokens)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The texts of the model's tokens."""
        made = self._tokens()
        return Vocabulary([b"" if made.is_special_token(i) else made.decode_bytes([i]) for i in range(made.vocab_size)])

    def _compile_grammar(self, source: str) -> Any:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokens(), source, log_level=0)
        if matcher.is_error():
            raise ConfigError(f"the grammar of the constraint does not compile: {_line(matcher.get_error())}")
        return matcher

    def _tokens(self) -> Any:
        """The tokenizer as llguidance sees it; making it takes up to a second."""
        import llguidance.hf

        with self._making:
            if self._made is None:
                known = len(self._tokenizer)  # a model's vocabulary may be larger, up to a round number
                ends = [end for end in self._ends if end < known]
                try:
                    self._made = llguidance.hf.from_tokenizer(
                        self._tokenizer, n_vocab=max(self._size, known), eos_token=ends
                    )
                except Exception as cause:  # its errors are plain ones of many kinds
                    raise ConfigError(f"the model's tokenizer cannot follow a grammar: {_line(cause)}") from cause
            return self._made


class ConstrainedAnswer:
    """An answer that is being written under a constraint, one grammar after the other.

    A grammar that is not final is complete at the first place where it may end; the constraint is then asked for the
    next one.

    Args:
        begun: what stood of the answer in the prompt of the call.
        text: what has been written after that, and stays.
    """

    def __init__(self, grammars: Grammars, constraint: Constraint, begun: str = "", text: str = "") -> None:
        self._grammars, self._constraint, self._begun, self._text = grammars, constraint, begun, text
        self._tokens: list[int] = []
        self.longer: list[int] = []  # allowed beside what `matcher` allows, which then is the first of a forced text
        self._begin(begun + text)

    def resume(self, text: str) -> ConstrainedAnswer:
        """The same answer, once it has been cut and goes on after another text."""
        return ConstrainedAnswer(self._grammars, self._constraint, self._begun, text)

    def _begin(self, text: str) -> None:
        grammar = self._constraint.grammar(text)
        self._final = grammar.final
        self.matcher = self._grammars.matcher(grammar.source)
        if not self._final and self.matcher.is_accepting():
            raise ConfigError("a grammar of the constraint that is not final allows the empty text; let it end in text")

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow any more."""
        return self._final and bool(self.matcher.is_stopped())

    def is_forced(self, token: int) -> bool:
        """Whether a token is the only text that may come next."""
        return bool(self.matcher.compute_ff_bytes().startswith(self._grammars.vocabulary.texts[token]))

    def consume(self, tokens: Sequence[int]) -> None:
        """Go on by tokens that the grammar allows; ConfigError for others, and where the grammar is too complex."""
        self._tokens += tokens
        self.longer = []
        if not self.matcher.consume_tokens([*tokens]):
            raise ConfigError(f"the grammar of the constraint cannot be followed: {_line(self.matcher.get_error())}")
        if not self._final and self.matcher.is_accepting():
            self._begin(self._begun + self._text + self._grammars.text_of(self._tokens))

    def forced(self) -> list[int]:
        """Go on by the tokens that are the only ones allowed, and return them."""
        forced: list[int] = []
        while not self.is_over and (tokens := self.matcher.compute_ff_tokens()):
            kept, self.longer = self._unbroken(tokens)
            if not kept:
                break
            self.consume(kept)
            forced += kept
        return forced

    def _unbroken(self, tokens: list[int]) -> tuple[list[int], list[int]]:
        """Forced tokens up to where a longer token could begin that goes on after them all, and such tokens.

        A model knows that one token, and not its text in pieces. llguidance looks for it in the last four tokens alone.
        """
        vocabulary = self._grammars.vocabulary
        for kept in range(len(tokens)):
            longer = vocabulary.longer(b"".join(vocabulary.texts[token] for token in tokens[kept:]))
            if longer:
                matcher = self.matcher.deep_copy()
                matcher.consume_tokens(tokens[:kept])
                if allowed := [token for token in longer if matcher.validate_tokens([token])]:
                    return tokens[:kept], allowed
        return tokens, []


def mask(logits: torch.Tensor, answers: Mapping[int, ConstrainedAnswer]) -> tuple[torch.Tensor, set[int]]:
    """Logits of shape (rows, vocabulary) with minus infinity for what the answers of some rows do not allow.

    Also returns the rows whose answers allow one token alone.
    """
    if not answers:
        return logits, set()
    from llguidance.numpy import fill_next_token_bitmask_par

    rows, vocabulary = logits.shape
    bits = np.full((rows, -(-vocabulary // _WORD)), -1, dtype=np.int32)  # rows without a grammar may have any token
    fill_next_token_bitmask_par(_executor(), [(answer.matcher, row) for row, answer in answers.items()], bits)
    for row, answer in answers.items():
        for token in answer.longer:
            bits[row, token // _WORD] |= np.uint32(1 << token % _WORD).view(np.int32)
    forbidden = np.unpackbits((~bits).view(np.uint8), axis=-1, count=vocabulary, bitorder="little").view(np.bool_)
    words = bits.view(np.uint32)
    largest = words.max(axis=-1)  # the only word of a row with one token, and then a power of two
    only_one = (np.count_nonzero(words, axis=-1) == 1) & (largest & (largest - 1) == 0)
    masked = logits.masked_fill(torch.from_numpy(forbidden).to(logits.device), float("-inf"))
    return masked, {row for row in answers if only_one[row]}


@cache
def _executor() -> Any:
    """The threads that fill masks, for all engines: one after the other, 32 masks take longer than a step."""
    from llguidance import LLExecutor

    return LLExecutor()


def _line(error: object) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or ["no reason was given"])[0]
