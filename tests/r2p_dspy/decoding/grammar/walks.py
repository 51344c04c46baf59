"""Grammars over bytes: whether they accept a text, and random texts that they allow."""

import numpy as np
import pytest

from r2p_dspy.decoding.grammar.building import constraint_for
from r2p_dspy.engines.answer import Thoughts
from r2p_dspy.outcome import Inputs
from r2p_dspy.prompting.adapter import RecordingAdapter

llguidance = pytest.importorskip("llguidance")

_END = 256


class _Bytes:
    """A tokenizer whose tokens are bytes."""

    eos_token_id = _END
    bos_token_id = None
    tokens = [*(bytes([byte]) for byte in range(256)), b"<|end|>"]
    special_token_ids = [_END]

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


BYTES = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()))

# What a walk likes to write: words, and what could pass for structure. The first ones end a line, a text or a list.
_ENDS = b'\n"]}[<'
_LIKED = b" aeo.tT1#&\\/>,:{-" + "é京🎉\u2028".encode()


def matcher(grammar):
    made = llguidance.LLMatcher(BYTES, grammar.source, log_level=0)
    assert not made.is_error(), made.get_error()[:500]
    return made


def accepts(grammar, text):
    """Whether a text is one that the grammar describes, from its beginning to its end."""
    made, tokens = matcher(grammar), list(text.encode())
    return made.try_consume_tokens(tokens) == len(tokens) and made.is_accepting()


def allows(grammar, text):
    """How much of a text the grammar lets a model write."""
    made, tokens = matcher(grammar), list(text.encode())
    return bytes(tokens[: made.try_consume_tokens(tokens)]).decode(errors="replace")


def written(constraint, rng, *, whole=False, text=""):
    """A random answer: the grammars that follow each other, until one is final."""
    while True:
        grammar = constraint.grammar(text, whole=whole)
        text += walk(matcher(grammar), rng)
        if grammar.final:
            return text


def walk(made, rng):
    out, steps = bytearray(), 0
    end = rng.choice((0.05, 0.2, 0.6))  # how soon a text ends
    while not made.is_stopped():
        forced = made.compute_ff_tokens()
        if forced:
            assert made.consume_tokens(forced)
            out += bytes(forced)
            continue
        allowed = np.unpackbits(np.frombuffer(made.compute_bitmask(), np.uint8), bitorder="little")[: _END + 1]
        choices = np.flatnonzero(allowed)
        assert len(choices), (made.get_error(), bytes(out[-200:]))
        if allowed[_END] and (len(choices) == 1 or rng.random() < 0.5):
            break
        steps += 1
        liked = [byte for byte in (_ENDS if rng.random() < end or steps > 1500 else _LIKED) if allowed[byte]]
        byte = int(rng.choice(liked if liked and rng.random() < 0.97 else choices[choices < _END]))
        assert made.consume_token(byte), made.get_error()
        out.append(byte)
    return out.decode()  # whole characters


def constraint_of(reason, items, adapter, **options):
    """The constraint on the answers of a `Reason` that is shown these items."""
    return constraint_for(
        reason.signature.output_fields,
        items,
        adapter,
        template=reason.template,
        stages=reason.stages,
        answers=reason.answers,
        thinks=reason.thought is not None,
        **options,
    )


def outcome_of(reason, adapter, text):
    """The outcome of an answer, read as a call reads it, in the format that was asked for."""
    recorder = RecordingAdapter.of(adapter)
    if reason.thought is None:
        fields = recorder.parse(reason.signature, text)
    else:
        pieces = Thoughts(False).push(text, last=True)
        thought, answer = ("".join(part for kind, part in pieces if kind == which) for which in ("thinking", "text"))
        fields = {**recorder.parse(reason.signature.delete(reason.thought), answer), reason.thought: thought}
    assert recorder.completions[0].shape == ""
    return reason.outcome_of(fields, text)


def inputs_of(reason, items):
    return Inputs(fields={}, items=items, labels=reason.labels)
