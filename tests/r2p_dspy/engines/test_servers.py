"""The same steered calls on vLLM, llama.cpp and SGLang: which server is asked what, and how its stream is read."""

import asyncio
import threading
import time

import dspy
import pytest
from dspy.lm15 import Config, Message, Request

from r2p_dspy.decoding.steering import steering
from r2p_dspy.engines import connect, context_window, count_tokens
from r2p_dspy.engines.served.engine import ServedEngine
from r2p_dspy.engines.served.probe import Address, may_be_own
from r2p_dspy.engines.served.servers.transport import Transport
from tests.film import FILM, HISTORY, ask, program
from tests.r2p_dspy.decoding.test_steering import Once
from tests.r2p_dspy.engines.test_served import BAD, CUT, FAULTS, GOOD, REST, Continues, serve
from tests.r2p_dspy.modules.test_thinking import ANSWER, thought
from tests.scripted import opening
from tests.served import BOS, Hangs, Stalls

__all__ = ["serve"]
KINDS = ["vllm", "llamacpp", "sglang"]
pytestmark = pytest.mark.not_json  # JSON answers are corrected by a retry


@pytest.fixture(params=KINDS)
def start(request, serve):
    """start(text, …) starts a server of each kind."""
    return lambda *texts, **options: serve(*texts, kind=request.param, **options)


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def lm(server, **options):
    return connect("openai/test", api_base=server.api_base, **{"num_retries": 0, "cache": False, **options})


def address(server, timeout=60.0):
    return Address(Transport(server.api_base, "none", timeout), "none")


def steered(server, reader, extra=(), **config):
    request = Request("openai/test", (Message.user("Tell me."),), config=Config(**config))
    with steering(lambda: reader):
        return ServedEngine(address(server), dict(extra)).complete(request)


class TestSegments:
    def test_uncorrected_answer_is_the_servers(self, start):
        server = start("It is so.")
        answer = steered(server, Once(0, at=10**6), max_tokens=50, temperature=0.5, top_p=0.9)
        assert (answer.text, answer.finish_reason) == ("It is so.", "stop")
        (prompt,) = server.prompts()
        assert prompt.removeprefix(BOS) == "<|user|>Tell me.<|assistant|>"
        (body,) = server.completions()
        limit = body.get("max_tokens", body.get("n_predict"))
        assert (limit, body["temperature"], body["top_p"], body["stream"]) == (50, 0.5, 0.9, True)
        assert "seed" not in body and "stop" not in body
        assert answer.usage.output_tokens == len("It is so.") + 1, "and the end of the turn"

    @pytest.mark.parametrize("ids", [True, False], ids=["ids", "no ids"])
    @pytest.mark.parametrize("step", [1, 7])
    @pytest.mark.parametrize("kept", [0, 1, 13, 30])
    def test_resumes_after_kept_text_note_and_opening(self, start, kept, step, ids):
        text = "01234ä6789" * 4
        server = start(Hangs(text), "at last.", step=step, ids=ids)
        assert steered(server, Once(kept)).text == f"{text[:kept]} so: at last."
        prompt = server.prompts()[1].removeprefix(BOS)
        assert prompt == f"<|user|>Tell me.<|assistant|>{text[:kept]} (Wait.) so: "
        assert server.hangs_up()

    def test_limit_is_the_reason_for_an_end(self, start):
        server = start("It goes on and on.")
        answer = steered(server, Once(0, at=10**6), max_tokens=5)
        assert (answer.text, answer.finish_reason, answer.usage.output_tokens) == ("It go", "length", 5)

    def test_client_looks_for_stop_strings(self, start):
        server = start(Hangs("so far so good"))
        answer = steered(server, Once(0, at=10**6), stop=("ood",))
        assert (answer.text, answer.finish_reason) == ("so far so g", "stop")
        assert server.hangs_up()

    def test_each_segment_has_its_own_seed(self, start):
        server = start(Hangs("x" * 40), "y")
        steered(server, Once(0), seed=3)
        first, second = (body["seed"] for body in server.completions())
        assert second == first + 1

    def test_settings_of_the_server_and_its_template(self, start):
        server = start("x")
        extra = {"min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}}
        steered(server, Once(0), extra=extra)
        rendered = [body for _, body in server.requests if "messages" in body]
        assert [body["chat_template_kwargs"] for body in rendered] == [{"enable_thinking": False}]
        assert server.completions()[0]["min_p"] == 0.1 and "chat_template_kwargs" not in server.completions()[0]

    def test_llamacpp_takes_seeds_of_32_bits(self, serve):
        server = serve("x", kind="llamacpp")
        steered(server, Once(0), seed=3)
        assert 0 <= server.completions()[0]["seed"] < 2**32 - 1


class TestR2P:
    def test_mistake_is_cut_off_and_resumed(self, start):
        server = start(Hangs(CUT), REST)
        with dspy.context(lm=lm(server), track_usage=True):
            answer = ask(program())
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stream")
        assert [(intervention.stage, intervention.check) for intervention in answer.interventions] == [
            ("evidence", "cited")
        ]
        assert server.hangs_up() and server.prompts()[1].endswith(f"cite only 1, 2.)\n\n{opening('evidence')}\n")
        (used,) = answer.get_lm_usage().values()
        assert used["completion_tokens"] == len(CUT) + len(REST) + 1

    def test_async_too(self, start):
        server = start(Hangs(CUT), REST)
        with dspy.context(lm=lm(server)):
            answer = asyncio.run(program().acall(film=FILM, profile=HISTORY))
        assert (answer.tag, answer.correction_mode, len(answer.interventions)) == ("romance", "stream", 1)

    @pytest.mark.parametrize("opens", ["<|assistant|>", "<|assistant|><think>\n"], ids=["none", "prefilled"])
    def test_native_thinking(self, start, opens):
        begins = "" if opens.endswith("\n") else "<think>\n"
        server = start(f"{begins}{thought()}\n</think>\n\n{ANSWER}", opens=opens)
        with dspy.context(lm=lm(server, reasoning=True)):
            answer = ask(program(carrier="thinking"))
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stream")

    def test_context_and_tokens_are_the_servers(self, start):
        model = lm(start("x", context=777))
        assert (context_window(model), count_tokens(model, "a storm")) == (777, 7)


class TestFaults:
    @pytest.mark.parametrize(("why", "text", "message"), FAULTS, ids=[fault[0] for fault in FAULTS])
    def test_server_fault_is_a_one_line_error(self, start, why, text, message):
        server = start(text)
        timeout = 0.5 if isinstance(text, Stalls) else 60.0
        with dspy.context(lm=lm(server, timeout=timeout)), pytest.raises(dspy.LMError, match=message) as fault:
            ask(program())
        assert "\n" not in str(fault.value) and len(server.prompts()) == 1, "no retries"


class TestWhichServer:
    def test_is_asked_once(self, start):
        server = start(GOOD)
        with dspy.context(lm=lm(server, temperature=1.0)):
            module = program()
            dspy.Parallel(num_threads=8, disable_progress_bar=True)(
                [(module, {"film": f"film {number}", "profile": HISTORY}) for number in range(8)]
            )
        context = server.owner == "sglang"  # which stands there too
        assert server.looked_up.count("/v1/models") == 1 + context

    def test_another_server_is_asked_once_and_then_left_alone(self, serve):
        server = serve(BAD, GOOD, vllm=False)
        with dspy.context(lm=lm(server)):
            assert [ask(program()).correction_mode for _ in range(2)] == ["retry"] * 2
        assert server.looked_up == ["/v1/models"] and server.bodies("/tokenize") == []

    @pytest.mark.parametrize("now", KINDS)
    @pytest.mark.parametrize("before", KINDS)
    def test_another_server_at_the_same_address_is_found(self, serve, before, now):
        old = serve(GOOD, kind=before)
        with dspy.context(lm=lm(old)):
            assert ask(program()).correction_mode == "stream"
        old.stop()
        serve(GOOD, kind=now, port=old.server_address[1])
        with dspy.context(lm=lm(old)):
            modes = [ask(program()).correction_mode for _ in range(2)]
        assert modes[1] == "stream" and modes[0] in ("stream", "retry")

    def test_plain_calls_ask_nothing(self, start):
        server = start(GOOD)
        lm(server)("Hello")
        assert server.looked_up == []

    def test_prefix_is_the_users_own_way(self, start):
        server = start(Continues(GOOD))
        with dspy.context(lm=lm(server, prefix={})):
            assert ask(program(max_backtracks=0)).correction_mode == "stages"
        assert server.looked_up == []

    def test_sglang_that_renders_no_chats_is_not_steered(self, serve):
        server = serve(BAD, GOOD, BAD, GOOD, kind="sglang", renders=False)
        with dspy.context(lm=lm(server)):
            assert [ask(program()).correction_mode for _ in range(2)] == ["retry"] * 2
        assert sum("messages" in body for body in server.bodies("/tokenize")) == 1, "it has said so once"

    def test_server_that_says_nothing_costs_a_call_little(self):
        import socket

        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            base = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
            model, began = connect("openai/test", api_base=base, num_retries=0), time.monotonic()
            assert context_window(model) is context_window(model) is None
            assert time.monotonic() - began < 4.5, "the second time is not waited for"

    @pytest.mark.parametrize(
        ("base", "own"),
        [
            ("http://127.0.0.1:8000/v1", True),
            ("http://gpu-box:30000", True),
            ("https://llm.example.org/v1", True),
            ("http://[::1]:8080/v1", True),
            ("https://api.openai.com/v1", False),
            ("https://mine.openai.azure.com/openai/v1", False),
            ("https://API.Groq.com/openai/v1", False),
            ("http://[broken", False),
        ],
    )
    def test_closed_apis_are_not_asked(self, base, own):
        assert may_be_own(base) == own


def test_threads_share_an_address(serve):
    server = serve(GOOD, kind="llamacpp", step=200)
    place, found = address(server), []
    threads = [threading.Thread(target=lambda: found.append(place.server())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1 and server.looked_up == ["/v1/models"]
