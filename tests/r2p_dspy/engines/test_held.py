"""Answers that servers hold to a form: what is sent, when, and what is said of a server that does not keep to it."""

import asyncio
import json
import logging

import dspy
import pytest

from r2p_dspy.decoding.constraining import Grammar, constraining
from r2p_dspy.decoding.notices import collect_notices, notice
from r2p_dspy.engines import connect
from r2p_dspy.engines.connect import constrains
from tests.endpoint import Endpoint, Reply
from tests.film import FILM, HISTORY, ask, fields, program
from tests.r2p_dspy.engines.test_served import CUT, GOOD, REST, serve
from tests.r2p_dspy.engines.test_servers import KINDS, lm, no_key
from tests.scripted import ScriptedEngine, opening
from tests.served import Hangs, Overloaded, Refuses

__all__ = ["no_key", "serve"]

ANY = "%llguidance {}\nstart: /(.|\\n)*/"
SCHEMA = {"type": "object", "properties": {"tag": {"type": "string"}}}
NAMES = {"vllm": "structured_outputs", "llamacpp": "grammar", "sglang": "ebnf"}


class Fixed:
    """A constraint with prepared grammars, which remembers what it was asked."""

    def __init__(self, *sources, schema=None):
        self.sources, self.asked, self._schema = list(sources) or [ANY], [], schema

    def grammar(self, text, /, *, whole=False):
        self.asked.append((text, whole))
        return Grammar(self.sources[0] if not text else self.sources[-1])

    def schema(self):
        return self._schema


def held(body):
    """What a completion was held to: a grammar, or a JSON Schema as a value; None if to nothing."""
    structured = body.get("structured_outputs") or {}
    grammar = structured.get("grammar") or body.get("grammar") or body.get("ebnf")
    schema = structured.get("json") or body.get("json_schema")
    return grammar or (json.loads(schema) if isinstance(schema, str) else schema)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


class TestGrammars:
    @pytest.mark.not_json
    def test_each_segment_goes_on_under_its_grammar(self, serve, kind):
        server = serve(Hangs(CUT), REST, kind=kind)
        constraint = Fixed(ANY, ANY + " ")
        with dspy.context(lm=lm(server)), constraining(constraint):
            answer = ask(program())
        assert (answer.tag, answer.correction_mode, len(answer.interventions)) == ("romance", "stream", 1)
        assert [held(body) for body in server.completions()] == [ANY, ANY + " "]
        assert {tuple(names) for body in server.completions() if (names := set(body) & {*NAMES.values()})} == {
            (NAMES[kind],)
        }
        kept = GOOD[: GOOD.index(opening("evidence"))].rstrip()
        assert {("", True), (f"{kept}\n\n{opening('evidence')}\n", True)} == {
            (text.replace("\n\n\n", "\n\n"), whole) for text, whole in constraint.asked
        }
        assert answer.warnings == []

    @pytest.mark.not_json
    @pytest.mark.parametrize("how", ["sync", "async"])
    def test_calls_that_are_not_steered(self, serve, kind, how):
        server = serve(GOOD, kind=kind)
        with dspy.context(lm=lm(server, cache=True)), constraining(Fixed()):
            for _ in range(2):
                module = program(max_interventions=0)
                call = ask(module) if how == "sync" else asyncio.run(module.acall(film=FILM, profile=HISTORY))
                assert (call.tag, call.correction_mode) == ("romance", "retry")
        assert [held(body) for body in server.completions()] == [ANY] * 2, "and the cache knows no grammars"

    def test_json_answers_are_held_in_place_of_dspys_own_schema(self, serve, kind):
        server = serve(json.dumps(fields()), kind=kind)
        with dspy.context(lm=lm(server), adapter=dspy.JSONAdapter()), constraining(Fixed(schema=SCHEMA)):
            assert ask(program()).tag == "romance"
        (body,) = server.completions()
        assert held(body) == ANY and "response_format" not in body

    @pytest.mark.not_json
    def test_calls_without_a_constraint_are_held_to_nothing(self, serve, kind):
        server = serve(GOOD, kind=kind)
        with dspy.context(lm=lm(server)):
            ask(program())
        assert [held(body) for body in server.completions()] == [None]

    def test_grammar_of_llamacpp_begins_with_its_header(self, serve):
        server = serve("x", kind="llamacpp")
        with constraining(Fixed("start: /x/")):
            lm(server)("Say x.")
        assert held(server.completions()[0]) == "%llguidance {}\nstart: /x/"


class TestServersThatTakeLess:
    @pytest.mark.parametrize(
        ("kind", "takes", "form"),
        [
            ("vllm", ("grammar", "schema"), "grammar"),
            ("llamacpp", ("grammar", "schema"), "grammar"),
            ("llamacpp", ("schema",), "schema"),
            ("sglang", ("grammar", "schema"), "grammar"),
            ("sglang", ("schema",), "schema"),
            ("sglang", (), None),
        ],
    )
    def test_what_the_server_says(self, serve, kind, takes, form):
        model = lm(serve("x", kind=kind, takes=takes))
        assert (model.constrains, constrains(model)) == (form, form)

    @pytest.mark.parametrize("kind", ["llamacpp", "sglang"])
    def test_schema_where_no_grammar_is_taken(self, serve, kind):
        server = serve(json.dumps(fields()), kind=kind, takes=("schema",))
        with dspy.context(lm=lm(server), adapter=dspy.JSONAdapter()), constraining(Fixed(schema=SCHEMA)):
            assert ask(program()).tag == "romance"
        assert [held(body) for body in server.completions()] == [SCHEMA]

    @pytest.mark.not_json
    @pytest.mark.parametrize("kind", ["llamacpp", "sglang"])
    def test_chat_answers_have_no_schema(self, serve, kind):
        server = serve(GOOD, kind=kind, takes=("schema",))
        with dspy.context(lm=lm(server)), constraining(Fixed()):
            assert ask(program()).correction_mode == "stream"
        assert [held(body) for body in server.completions()] == [None]

    def test_unknown_server_and_streaming_calls_hold_nothing(self, serve):
        assert lm(serve("x", vllm=False)).constrains is None
        model = lm(serve("x"))
        with dspy.context(send_stream=object()):
            assert model.constrains is None

    def test_no_lm_and_an_engine_that_says_so(self):
        assert constrains(None) is None
        assert constrains(dspy.LM("a/b", engine=ScriptedEngine("x", constrains="grammar"))) == "grammar"

    @pytest.mark.not_json
    def test_a_thought_that_the_template_opens_is_the_beginning_of_the_answer(self, serve, kind):
        server = serve(f"Well.\n</think>\n\n{GOOD}", kind=kind, opens="<think>\n")
        constraint = Fixed()
        with dspy.context(lm=lm(server)), constraining(constraint):
            assert ask(program()).tag == "romance"
        assert {text for text, _ in constraint.asked if text} == {"<think>\n"}


class TestRefusals:
    @pytest.mark.not_json
    def test_refused_grammar_is_left_out_and_said_once(self, serve, caplog):
        server = serve(GOOD, takes=("schema",))
        model = lm(server)
        with dspy.context(lm=model), constraining(Fixed()), caplog.at_level(logging.WARNING):
            first, second = (ask(program()) for _ in range(2))
        assert first.tag == second.tag == "romance"
        (warning,) = first.warnings
        assert "refused the grammar of an answer" in warning and "not supported by backend xgrammar" in warning
        assert second.warnings == [] and caplog.messages.count(warning) == 1
        assert [held(body) for body in server.completions()] == [ANY, None, None]
        assert model.constrains == "schema"

    @pytest.mark.not_json
    def test_server_that_has_taken_others_refuses_one_alone(self, serve):
        server = serve(GOOD)
        model = lm(server)
        warnings = []
        for takes in [("grammar",), (), ("grammar",)]:
            server.takes = takes
            with dspy.context(lm=model), constraining(Fixed()):
                warnings.append(ask(program()).warnings)
        assert [len(each) for each in warnings] == [0, 1, 0] and "refused" in warnings[1][0]
        assert [held(body) for body in server.completions()] == [ANY, ANY, None, ANY]
        assert model.constrains == "grammar"

    def test_refused_schema_too(self, serve):
        server = serve(json.dumps(fields()), takes=())
        model = lm(server)
        with dspy.context(lm=model, adapter=dspy.JSONAdapter()), constraining(Fixed(schema=SCHEMA)):
            warnings = [ask(program()).warnings for _ in range(3)]
        assert [len(each) for each in warnings] == [1, 1, 0]
        assert [held(body) for body in server.completions()] == [ANY, None, SCHEMA, None]
        assert model.constrains is None

    @pytest.mark.not_json
    def test_other_refusals_are_the_calls_own(self, serve):
        server = serve(Refuses("temperature must be non-negative"))
        model = lm(server)
        with dspy.context(lm=model), constraining(Fixed()), pytest.raises(dspy.LMError, match="non-negative"):
            ask(program())
        assert model.constrains == "grammar"

    @pytest.mark.not_json
    def test_an_overloaded_server_is_not_taken_to_refuse_a_form(self, serve):
        server = serve(Overloaded("busy"), GOOD)
        model = lm(server)
        with dspy.context(lm=model), constraining(Fixed()):
            with pytest.raises(dspy.LMError, match="busy"):
                ask(program())
            assert ask(program()).tag == "romance"
        assert [held(body) for body in server.completions()] == [ANY, ANY] and model.constrains == "grammar"

    def test_requests_that_cannot_be_constrained_say_so(self, serve):
        server = serve("A storm.")
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
        messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
        with constraining(Fixed()), collect_notices() as notices:
            assert lm(server)(messages=messages) == ["A storm."]
        assert len(notices) == 1 and "an answer was not constrained" in notices[0]


class TestIgnored:
    FRAME = '%llguidance {}\nstart: "[[ ## requirements ## ]]" /(.|\\n)*/'

    @pytest.mark.not_json
    def test_answer_that_breaks_its_grammar_is_noticed_once(self, serve, kind, caplog):
        pytest.importorskip("llguidance")
        server = serve(f"Sure! Here is my answer.\n\n{GOOD}", kind=kind)
        model = lm(server)
        with dspy.context(lm=model), constraining(Fixed(self.FRAME)), caplog.at_level(logging.WARNING):
            first, second = (ask(program()) for _ in range(2))
        (warning,) = first.warnings
        assert "ignored the grammar of an answer, which began 'Sure! Here" in warning
        assert second.warnings == [] and caplog.messages.count(warning) == 1
        assert [held(body) for body in server.completions()] == [self.FRAME, None]
        assert model.constrains is None

    @pytest.mark.not_json
    def test_answer_that_follows_is_no_news(self, serve, kind):
        server = serve(Hangs(CUT), REST, GOOD, kind=kind)
        rest = "%llguidance {}\nstart: /(.|\\n)*/"
        with dspy.context(lm=lm(server)), constraining(Fixed(self.FRAME, rest)):
            assert [ask(program()).warnings for _ in range(2)] == [[], []]
        assert [held(body) for body in server.completions()] == [self.FRAME, rest, self.FRAME]

    def test_schema_too(self, serve):
        server = serve("Sure! Here is the JSON.", kind="sglang", takes=("schema",))
        with dspy.context(adapter=dspy.JSONAdapter()), constraining(Fixed(schema=SCHEMA)), collect_notices() as said:
            model = lm(server)
            assert [model("Which?") for _ in range(2)] == [["Sure! Here is the JSON."]] * 2
        assert len(said) == 1 and "ignored the schema" in said[0]


class TestClosedApis:
    """Providers that take a JSON Schema as `response_format`, and nothing else."""

    @pytest.fixture
    def calls(self):
        """calls(reply, …) makes an endpoint, and a program of a model that takes schemas there."""
        endpoints = []

        def make(*replies):
            endpoints.append(Endpoint(*replies))
            model = connect("openai/gpt-4o-mini", api_base=endpoints[-1].api_base, num_retries=0, cache=False)
            return endpoints[-1], model

        yield make
        for endpoint in endpoints:
            endpoint.stop()

    def formats(self, endpoint):
        sent = [body.get("response_format") or {} for body in endpoint.bodies("/v1/chat/completions")]
        return [(format_.get("json_schema") or {}).get("schema") for format_ in sent]

    def test_schema_of_the_constraint_is_sent_in_place_of_dspys(self, calls):
        endpoint, model = calls(Reply.json(fields()))
        assert model.constrains == "schema"
        with dspy.context(lm=model, adapter=dspy.JSONAdapter()), constraining(Fixed(schema=SCHEMA)):
            assert ask(program()).tag == "romance"
        assert self.formats(endpoint) == [SCHEMA]

    def test_dspys_own_without_a_constraint(self, calls):
        endpoint, model = calls(Reply.json(fields()))
        with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
            ask(program())
        (schema,) = self.formats(endpoint)
        assert "evidence" in schema["properties"]

    def test_refused_schema_gives_way_to_dspys_own(self, calls):
        refusal = Reply.http_error(400, "Invalid schema for response_format 'answer'")
        endpoint, model = calls(refusal, Reply.json(fields()))
        with dspy.context(lm=model, adapter=dspy.JSONAdapter()), constraining(Fixed(schema=SCHEMA)):
            first, second = ask(program()), ask(program(constrain="off"))
        assert first.tag == second.tag == "romance"
        assert ["refused the schema" in warning for warning in first.warnings] == [True] and second.warnings == []
        schemas = self.formats(endpoint)
        assert schemas[0] == SCHEMA and len(schemas) == 3 and SCHEMA not in schemas[1:]
        assert model.constrains is None

    @pytest.mark.not_json
    def test_nothing_under_other_adapters(self, calls):
        endpoint, model = calls(GOOD)
        with dspy.context(lm=model, adapter=dspy.ChatAdapter()), constraining(Fixed()):
            ask(program())
        assert self.formats(endpoint) == [None]


def test_notices_of_an_inner_block_are_its_own():
    with collect_notices() as outer:
        notice("first")
        with collect_notices() as inner:
            notice("second")
        notice("third")
    assert (outer, inner) == (["first", "third"], ["second"])
