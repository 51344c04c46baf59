"""Answers of the in-process engine that follow a grammar: masks, forced tokens, several grammars, batches."""

import asyncio
import importlib.util
import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import dspy
import pytest
import torch
from dspy import lm15
from dspy.lm15 import Config, Message, Request
from hypothesis import given, settings
from hypothesis import strategies as st

from programs.calls.cache import CallCache
from programs.calls.recording import record_calls
from programs.calls.usage import UsageLimiter
from r2p_dspy.decoding.constraining import Grammar, constraining
from r2p_dspy.decoding.steering import Correction, steering
from r2p_dspy.engines import connect, constrains
from r2p_dspy.engines.local import batching
from r2p_dspy.engines.local.async_engine import AsyncTransformersEngine
from r2p_dspy.engines.local.batching import Batcher
from r2p_dspy.engines.local.engine import TransformersEngine
from r2p_dspy.engines.local.masks import ConstrainedAnswer, Grammars, mask
from r2p_dspy.engines.local.rows import Row
from r2p_dspy.engines.local.slots import pass_for
from r2p_dspy.errors import ConfigError

torch.set_num_threads(1)

FIRST, SECOND = "[[ ## tag ## ]]\n", "\n\n[[ ## completed ## ]]\n"
QUOTE = "ends: été 漢字 and back again"


@dataclass(frozen=True)
class Parts:
    """A constraint of grammars, each of which ends with its mark; the marks in the text tell which is due."""

    grammars: tuple[str, ...]
    marks: tuple[str, ...] = ()

    def grammar(self, text, /, *, whole=False):
        due = sum(mark in text for mark in self.marks)
        return Grammar(self.grammars[due], final=due == len(self.grammars) - 1)

    def schema(self):
        return None


def parts(*grammars, marks=()):
    return Parts(tuple(f"start: {grammar}" for grammar in grammars), marks)


# A grammar, and the same as a pattern of Python's.
JSON = r'''"{\"items\": [" /[1-4]/ (", " /[1-4]/)~0..3 "], \"sure\": " ("true" | "false") "}"'''
EVIDENCE = r"""requirements evidence "\n\n[[ ## completed ## ]]\n"
requirements: "[[ ## requirements ## ]]\n" /[a-z ]{5,40}/
evidence: "\n\n[[ ## evidence ## ]]\n[{\"item\": \"" /[1-4]/ "\", \"quote\": \"" /[a-z ]{3,30}/ "\"}]"
"""
TAG = r'"[[ ## tag ## ]]\n" /[a-z ]{1,20}/ "\n\n[[ ## completed ## ]]\n"'
TAG_PATTERN = r"\[\[ ## tag ## \]\]\n[a-z ]{1,20}\n\n\[\[ ## completed ## \]\]\n"
CASES = [
    ('"yes" | "no" | "not at all"', "yes|no|not at all"),
    (TAG, TAG_PATTERN),
    (JSON, r'\{"items": \[[1-4](, [1-4]){0,3}\], "sure": (true|false)\}'),
    (r'/[^\n"]{3,12}/', r'[^\n"]{3,12}'),
    ('"été 漢字 🙂" /[é漢]{2,4}/', "été 漢字 🙂[é漢]{2,4}"),
]
SAMPLING = [{"temperature": 1.5}, {"temperature": 1.5, "top_k": 3, "top_p": 0.5}, {"temperature": 0.0}]
CHOICES = st.lists(st.text('ab é漢\n"{}[]\\', min_size=1, max_size=12), min_size=1, max_size=4)
LABELS = parts(TAG)


@pytest.fixture(scope="module")
def engine(tiny_model_dir):
    engine = TransformersEngine(str(tiny_model_dir))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()


@pytest.fixture(scope="module")
def grammars(tiny_model_dir):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    return Grammars(tokenizer, 600, {2}, lambda ids: tokenizer.decode(ids, skip_special_tokens=True))


@pytest.fixture
def batch(model):
    batch = Batcher(model, {2})
    yield batch
    batch.close()


def ask(engine, text="Tell me about tests.", **config):
    return Request(engine.model_name, (Message.user(text),), config=Config(**{"max_tokens": 200, **config}))


def constrained(grammars, constraint, *, limit=120, prompt=(5, 6, 7), temperature=1.0, seed=0, **options):
    answer = ConstrainedAnswer(grammars, constraint)
    return Row([*prompt], limit, temperature, seed=seed, constrained=answer, **options)


class NeverForced(ConstrainedAnswer):
    """The same answer without skipping: each token is chosen."""

    def forced(self):
        return []


class TestGrammar:
    @pytest.mark.parametrize("grammar, pattern", CASES)
    @pytest.mark.parametrize(
        "sampling", [{"temperature": 1.5}, {"temperature": 1.5, "top_k": 3, "top_p": 0.5}, {"temperature": 0.0}]
    )
    def test_every_answer_follows_it(self, engine, grammar, pattern, sampling):
        with constraining(parts(grammar)):
            responses = [engine.complete(ask(engine, seed=seed, **sampling)) for seed in range(8)]
        for response in responses:
            assert re.fullmatch(pattern, response.text), response.text
            assert response.finish_reason == "stop"

    @settings(max_examples=30, deadline=None)
    @given(choices=CHOICES, seed=st.integers(0, 99))
    def test_any_choice_of_texts(self, engine, choices, seed):
        source = " | ".join(json.dumps(choice) for choice in choices)
        with constraining(parts(source)):
            assert engine.complete(ask(engine, temperature=1.5, seed=seed)).text in choices

    def test_quote_stands_in_the_item(self, engine):
        source = f'"<" quote ">"\nquote: %regex {{ "substring_words": "{QUOTE}" }}'
        with constraining(parts(source)):
            texts = {engine.complete(ask(engine, temperature=1.5, seed=seed)).text for seed in range(12)}
        assert len(texts) > 3
        assert all(text[1:-1] in QUOTE for text in texts)

    def test_turn_ends_only_where_the_grammar_may(self, engine):
        with constraining(parts("/a{3,40}/")):
            lengths = {len(engine.complete(ask(engine, temperature=1.5, seed=seed)).text) for seed in range(12)}
        assert min(lengths) >= 3 and max(lengths) <= 40 and len(lengths) > 1

    @pytest.mark.parametrize("grammar", ["missing", "((", '%regex {"x": 1}'])
    def test_text_that_is_no_grammar_fails_its_call_alone(self, engine, grammar):
        with constraining(parts(grammar)), pytest.raises(lm15.InvalidRequestError, match="grammar") as failure:
            engine.complete(ask(engine))
        assert "\n" not in str(failure.value)
        assert engine.complete(ask(engine, max_tokens=3)).usage.output_tokens

    def test_without_llguidance(self, engine, monkeypatch):
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llguidance" else real(name))
        assert not engine.constrains
        assert engine.complete(ask(engine, max_tokens=3)).usage.output_tokens
        with constraining(LABELS), pytest.raises(lm15.UnsupportedFeatureError, match="pip install llguidance"):
            engine.complete(ask(engine))

    def test_models_say_whether_they_can(self):
        assert constrains(connect("pocket"))
        assert not constrains(dspy.LM("openai/gpt-4o-mini"))

    def test_same_grammar_is_compiled_once(self, grammars, monkeypatch):
        compiled = []
        compile_it = grammars._compile_grammar
        monkeypatch.setattr(grammars, "_compile_grammar", lambda source: compiled.append(source) or compile_it(source))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: ConstrainedAnswer(grammars, parts('"never" | "compiled"')), range(12)))
        assert len(compiled) == 1


class TestSeveralGrammars:
    MARKED = parts(r'"<" /[a-z]{2,9}/ ">"', r'"(" /[0-9]{2,9}/ ")"', '"." | "!"', marks=(">", ")"))
    PATTERN = r"<[a-z]{2,9}>\([0-9]{2,9}\)[.!]"

    def test_next_is_asked_with_the_text_so_far(self, engine):
        asked = []

        class Watched(Parts):
            def grammar(self, text, /, *, whole=False):
                asked.append(text)
                return super().grammar(text, whole=whole)

        with constraining(Watched(self.MARKED.grammars, self.MARKED.marks)):
            text = engine.complete(ask(engine, temperature=1.5)).text
        assert re.fullmatch(self.PATTERN, text)
        assert asked == ["", text[: text.index(">") + 1], text[: text.index(")") + 1]]

    def test_answer_that_is_continued(self, engine):
        messages = (Message.user("Go on."), Message.assistant("<abc>"))
        extensions = {"continue_final_message": True, "add_generation_prompt": False}
        request = replace(ask(engine, temperature=1.5), messages=messages)
        request = replace(request, config=replace(request.config, extensions=extensions))
        with constraining(self.MARKED):
            assert re.fullmatch(self.PATTERN, "<abc>" + engine.complete(request).text)

    def test_failure_of_a_later_grammar_fails_its_row_alone(self, batch, grammars):
        bad = constrained(grammars, parts(r'"<" /[a-z]{2,9}/ ">"', "missing", marks=(">",)))
        good = constrained(grammars, LABELS, seed=1)
        for row in (bad, good):
            batch.submit(row)
        with pytest.raises(ConfigError, match="does not compile"):
            bad.wait()
        assert good.wait().finish == "stop"

    def test_grammar_that_is_not_final_has_an_end(self, grammars):
        with pytest.raises(ConfigError, match="not final"):
            ConstrainedAnswer(grammars, parts('"a"?', '"b"', marks=("a",)))


class TestForcedTokens:
    def test_same_text_with_fewer_passes(self):
        """On the pocket model at temperature 0; passes of several tokens round differently, but not that much."""
        engine = TransformersEngine.shared("pocket", reasoning=True)
        rows = []
        for kind in (ConstrainedAnswer, NeverForced):
            row, _ = engine.plan(ask(engine, temperature=0.0))
            row.constrained = kind(engine._grammars, parts(EVIDENCE))
            engine.submit(row)
            rows.append(row.wait())
        skipping, choosing = rows
        assert skipping.tokens == choosing.tokens
        assert skipping.generated == choosing.generated == choosing.forward_passes
        assert skipping.forward_passes < choosing.forward_passes

    @pytest.mark.parametrize("flag", ["true", "false"])
    def test_text_that_a_longer_token_goes_on_from_is_not_forced(self, flag):
        """The pocket model knows the whole line as one token, and its text in pieces not at all."""
        engine = TransformersEngine.shared("pocket", reasoning=True)
        line = r'''"{\"approved\": " ("true" | "false") ", \"reason\": \"" /[a-z]{3,9}/ "\"}"'''
        answer = ConstrainedAnswer(engine._grammars, parts(line))
        assert answer.forced() == []
        whole = engine._grammars.vocabulary.texts.index(f'{{"approved": {flag}, "reason": "'.encode())
        first = engine._grammars.vocabulary.texts.index(b"{")
        allowed = mask(torch.zeros(1, engine._batch.vocabulary), {0: answer})[0] == 0
        assert allowed[whole] and allowed[first]
        assert allowed.sum() < 10
        answer.consume([whole])
        assert (answer.forced(), answer.longer) == ([], [])

    def test_answer_that_is_forced_needs_no_pass(self, batch, grammars):
        row = batch.submit(constrained(grammars, parts('"all of this is forced"'))).wait()
        assert grammars.text_of(row.tokens) == "all of this is forced"
        assert (row.finish, row.forward_passes, row.generated) == ("stop", 0, len(row.tokens))
        assert batch.served.forward_passes == batch.served.steps == 0

    def test_what_is_forced_first_is_read_with_the_prompt(self, batch, grammars):
        row = batch.submit(constrained(grammars, parts('"all of this and " ("x" | "y")'))).wait()
        assert (row.forward_passes, row.finish) == (1, "stop")
        assert row.generated > 4

    @pytest.mark.parametrize("forced", [1, 2, 3, 4, 12, 15, 16, 17, 40])
    def test_what_is_forced_later_is_read_in_passes_of_several_tokens(self, batch, grammars, forced):
        source = f'("a" | "b") "{"#~" * forced}" ("7" | "8")'
        row = batch.submit(constrained(grammars, parts(source))).wait()
        unread, passes = len(row.tokens) - 1, 0  # nothing follows the last
        while unread:
            unread, passes = unread - min(unread, pass_for(unread)), passes + 1
        assert row.forward_passes == 1 + passes
        assert batch.served.steps == passes

    @pytest.mark.parametrize("limit, finish", [(3, "length"), (8, "length"), (0, "stop")])
    def test_limit_counts_them(self, batch, grammars, limit, finish):
        whole = batch.submit(constrained(grammars, LABELS)).wait()
        row = batch.submit(constrained(grammars, LABELS, limit=limit or whole.generated)).wait()
        assert row.finish == finish
        assert row.tokens == whole.tokens[: limit or None]
        assert row.generated == len(row.tokens)

    def test_stop_string_inside(self, engine):
        with constraining(LABELS):
            response = engine.complete(ask(engine, temperature=1.0, stop=("completed",)))
        assert response.text.endswith("\n\n[[ ## ") and response.finish_reason == "stop"

    def test_stream_shows_them(self, engine):
        request = ask(engine, temperature=1.0)
        with constraining(LABELS):
            *_, last = events = list(engine.stream(request))
            response = engine.complete(request)
        assert "".join(event.delta.text for event in events if event.type == "delta") == response.text
        assert (last.usage, last.provider_data) == (response.usage, response.provider_data)
        assert last.provider_data["forward_passes"] < last.usage.output_tokens


class TestBatch:
    SOURCES = [
        *(parts(grammar) for grammar, _ in CASES),
        TestSeveralGrammars.MARKED,
        parts(r'("a" | "b") /[a-z]{1,3}/ "\n## a long text that is forced, longer than one pass\n" /[a-z ]{2,20}/'),
        parts(f'"<" quote "> " quote "."\nquote: %regex {{ "substring_words": "{QUOTE}" }}'),
        None,
        None,
    ]  # fmt: skip

    def rows(self, grammars, count):
        rng = random.Random(0)
        for i in range(count):
            prompt, constraint = [rng.randrange(3, 600) for _ in range(rng.randrange(1, 60))], self.SOURCES[i % 10]
            answer = None if constraint is None else ConstrainedAnswer(grammars, constraint)
            yield Row(prompt, rng.randrange(30, 90), (0.0, 1.0, 1.5)[i % 3], 0.9, seed=i, constrained=answer)

    @pytest.fixture
    def seen(self, monkeypatch):
        """The logits that each row saw, by the first random number of the row's seed."""
        seen = {}
        choose = batching.choose

        def watching(logits, rows):
            for row, own in zip(rows, logits, strict=True):
                seen.setdefault(row, []).append(own.clone())
            return choose(logits, rows)

        monkeypatch.setattr(batching, "choose", watching)
        return seen

    @pytest.mark.parametrize("others", [1, 3, 15, 31])
    def test_row_never_depends_on_its_batch(self, batch, grammars, seen, others):
        alone = [batch.submit(row).wait() for row in self.rows(grammars, 1 + others)]
        together = list(self.rows(grammars, 1 + others))
        rng = random.Random(others)
        for row in together:
            batch.submit(row)
            time.sleep(rng.choice([0, 0, 0.004]))
        for row, single in zip(together, alone, strict=True):
            assert row.wait().tokens == single.tokens
            assert (row.finish, row.forward_passes) == (single.finish, single.forward_passes)
            assert all(map(torch.equal, seen[row], seen[single])), "to the bit"

    def test_rows_that_leave_early_change_nothing(self, batch, grammars):
        alone = [batch.submit(row).wait().tokens for row in self.rows(grammars, 20)]
        together = list(self.rows(grammars, 20))
        for row in together:
            batch.submit(row)
        for row in together[1::2]:
            row.cancel()
        assert [row.wait().tokens for row in together[::2]] == alone[::2]

    def test_cancelled_row_ends(self, batch, grammars):
        row = batch.submit(constrained(grammars, parts("/[a-z ]{400}/"), limit=450))
        next(iter(row))
        row.cancel()
        assert row.wait().finish == "cancelled"

    def test_late_row_ends(self, batch, grammars):
        with pytest.raises(TimeoutError):
            batch.submit(constrained(grammars, parts("/[a-z ]{400}/"), limit=450, timeout=0.01)).wait()

    def test_calls_share_forward_passes(self, batch, grammars):
        rows = [batch.submit(constrained(grammars, LABELS, seed=seed)) for seed in range(16)]
        passes = sum(row.wait().forward_passes for row in rows)
        assert batch.served.forward_passes == passes
        assert batch.served.steps < passes / 3


class TestSteered:
    """A steer that doubts the first word in angle brackets, once."""

    MARKED = TestSeveralGrammars.MARKED

    def steer(self, note="(no: "):
        corrected = []

        def read(text):
            if ">" in text and not corrected:
                corrected.append(text[: text.index(">") + 1])
                return Correction(kept=1, note=note, opening="fine>")
            return None

        return lambda: read

    @pytest.mark.parametrize("seed", range(4))
    def test_correction_goes_on_under_the_grammar_of_the_kept_text(self, engine, seed):
        asked = []

        class Watched(Parts):
            def grammar(self, text, /, *, whole=False):
                asked.append(text)
                return super().grammar(text, whole=whole)

        constraint = Watched(self.MARKED.grammars, self.MARKED.marks)
        with constraining(constraint), steering(self.steer()):
            response = engine.complete(ask(engine, temperature=1.5, seed=seed))
        assert re.fullmatch(r"<fine>\([0-9]{2,9}\)[.!]", response.text)
        assert "<fine>" in asked and not any("no:" in text for text in asked)
        assert 0 < response.provider_data["forward_passes"] <= response.usage.output_tokens + 2

    def test_async_call(self, engine):
        async def both():
            engine_ = AsyncTransformersEngine(engine)
            plain = await engine_.complete(ask(engine, temperature=1.5))
            with steering(self.steer()):
                return plain, await engine_.complete(ask(engine, temperature=1.5))

        with constraining(self.MARKED):
            plain, steered = asyncio.run(both())
            assert plain == engine.complete(ask(engine, temperature=1.5))
        assert re.fullmatch(TestSeveralGrammars.PATTERN, plain.text)
        assert steered.text.startswith("<fine>")


class TestCalls:
    def lm(self, engine, **options):
        return connect(f"hf:{engine.source}", temperature=1.0, max_tokens=100, **options)

    def test_usage_has_forward_passes(self, engine):
        lm = self.lm(engine)
        with constraining(LABELS), dspy.track_usage() as usage:
            texts = lm("Hello", n=3)
        (entry,) = usage.usage_data[lm.model]
        passes = [response.provider_data["forward_passes"] for response in lm.history[-1]["response"]]
        assert len(set(texts)) == 3 and all(re.fullmatch(TAG_PATTERN, text) for text in texts)
        assert entry["forward_passes"] == sum(passes) < entry["completion_tokens"]

    def test_usage_of_free_calls(self, engine):
        lm = self.lm(engine)
        with dspy.track_usage() as usage:
            lm("Hello there")
            lm("Hello there")  # from DSPy's cache
        (entry,) = usage.usage_data[lm.model]
        assert entry["forward_passes"] == entry["completion_tokens"]

    def test_dspy_caches_no_constrained_call(self, engine):
        lm = self.lm(engine)
        free = lm("Once more")
        with constraining(LABELS):
            assert lm("Once more") != free
        assert lm("Once more") == free

    def test_call_cache_tells_constraints_apart(self, engine, tmp_path):
        cache = CallCache(tmp_path)
        answers = []
        for constraint in (None, LABELS, parts('"a" | "b"'), None, LABELS, parts('"a" | "b"')):
            lm = record_calls(self.lm(engine), cache, UsageLimiter())
            with constraining(constraint), dspy.track_usage() as usage:
                (answer,) = lm("Hello")
            answers.append((answer, usage.usage_data[lm.model][0]["forward_passes"]))
            assert lm.limiter.usage.calls == (len(answers) <= 3)
        assert answers[:3] == answers[3:]
        assert len(set(answers)) == 3
