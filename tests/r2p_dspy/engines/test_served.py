"""Steering a model on a server: what is asked of it, when it is stopped, and what a caller sees of its faults."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from dspy.lm15 import Config, Message, Request

from r2p_dspy import optimizing
from r2p_dspy.decoding.steering import Correction, steering
from r2p_dspy.engines import connect
from r2p_dspy.engines.served import probe
from r2p_dspy.engines.served.engine import ServedEngine, ThreadedEngine
from tests.film import FILM, HISTORY, ask, program
from tests.r2p_dspy.decoding.test_steering import Once
from tests.r2p_dspy.modules.test_thinking import ANSWER, thought
from tests.scripted import STAGES, after, completion, ending, opening
from tests.served import Dies, Ends, Hangs, Refuses, ScriptedServer, Stalls, vllm_at

EVIDENCE = STAGES["evidence"]
GOOD = completion()
BAD = completion(evidence=EVIDENCE.replace('"1"', '"7"'))
REST = after("evidence", GOOD)
CUT = BAD[: BAD.index(ending("evidence")) + len(ending("evidence"))]  # where the mistake shows
pytestmark = pytest.mark.not_json  # JSON answers are corrected by a retry


@pytest.fixture
def serve(monkeypatch):
    """serve(text, …) starts a server that writes these texts."""
    monkeypatch.delenv("HOSTED_VLLM_API_KEY", raising=False)
    monkeypatch.delenv("HOSTED_VLLM_API_BASE", raising=False)
    probe._owners.clear()  # ports come again
    probe._silent.clear()
    probe._made.cache_clear()
    servers = []

    def start(*texts, **options):
        servers.append(ScriptedServer(*texts, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def lm(server, **options):
    return connect(
        "hosted_vllm/test", api_base=server.api_base, **{"timeout": 60.0, "num_retries": 0, "cache": False, **options}
    )


def steered(server, reader, timeout=60.0, extra=(), **config):
    request = Request("hosted_vllm/test", (Message.user("Tell me."),), config=Config(**config))
    with steering(lambda: reader):
        return ServedEngine(vllm_at(server, timeout), dict(extra)).complete(request)


class TestSegments:
    def test_uncorrected_answer_is_the_servers(self, serve):
        server = serve("It is so.")
        answer = steered(server, Once(0, at=10**6), max_tokens=50, temperature=0.5, top_p=0.9)
        assert (answer.text, answer.finish_reason) == ("It is so.", "stop")
        (body,) = server.bodies("/v1/completions")
        assert server.prompts() == ["<|user|>Tell me.<|assistant|>"]
        wanted = {"max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "stream": True, "model": "test"}
        assert wanted.items() <= body.items() and "seed" not in body and "stop" not in body

    @pytest.mark.parametrize("ids", [True, False], ids=["ids", "no ids"])
    @pytest.mark.parametrize("step", [1, 7])
    @pytest.mark.parametrize("kept", [0, 1, 13, 30])
    def test_resumes_after_kept_text_note_and_opening(self, serve, kept, step, ids):
        text = "0123456789" * 4
        server = serve(Hangs(text), "at last.", step=step, ids=ids)
        answer = steered(server, Once(kept))
        assert answer.text == f"{text[:kept]} so: at last."
        assert server.prompts()[1] == f"<|user|>Tell me.<|assistant|>{text[:kept]} (Wait.) so: "

    def test_stop_reaches_server_and_all_tokens_count(self, serve):
        server = serve(Hangs("x" * 35), "y" * 7, step=5)
        answer = steered(server, Once(3))
        assert server.hangs_up() and server.written == 42
        # 30 characters are enough for the reader, and the rest was thrown away with them; the last token ends the turn.
        assert answer.usage.output_tokens == 30 + 7 + 1
        assert answer.usage.input_tokens == sum(len(prompt) for prompt in server.prompts())

    def test_cut_within_an_earlier_opening(self, serve):
        corrections = [Correction(10, "", " so: we say "), Correction(14, " (Hm.)", " that is ")]
        server = serve(Hangs("0123456789" * 3), Hangs("nothing at all"), "it.")

        def reader(text):
            return corrections.pop(0) if corrections and len(text) >= 26 else None

        assert steered(server, reader).text == "0123456789 so: that is it."
        assert server.prompts()[2].endswith("|>0123456789 so: (Hm.) that is ")

    def test_endless_corrections_keep_the_token_limit(self, serve):
        server = serve(Hangs("abcdefgh"))
        answer = steered(server, lambda text: Correction(0, "", "x") if len(text) > 4 else None, max_tokens=20)
        assert answer.usage.output_tokens == 20 and answer.finish_reason in ("length", "stop")
        assert [body["max_tokens"] for body in server.bodies("/v1/completions")] == [20, 15, 11, 7, 3]

    def test_endless_corrections_keep_the_context(self, serve):
        server = serve(Hangs("x" * 40), context=70)
        assert steered(server, Once(30, opening="y" * 12)).text == "x" * 30

    def test_each_segment_has_its_own_seed(self, serve):
        server = serve(Hangs("x" * 40), "y")
        steered(server, Once(0), seed=3)
        first, second = (body["seed"] for body in server.bodies("/v1/completions"))
        assert second == first + 1

    def test_client_looks_for_stop_strings(self, serve):
        server = serve(Hangs("so far so good"))
        answer = steered(server, Once(0, at=10**6), stop=("ood",))
        assert (answer.text, answer.finish_reason) == ("so far so g", "stop")
        assert server.hangs_up()

    def test_server_and_template_settings(self, serve):
        server = serve("x")
        extra = {"min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}}
        steered(server, Once(0), extra=extra)
        assert server.bodies("/tokenize")[0]["chat_template_kwargs"] == {"enable_thinking": False}
        assert server.bodies("/v1/completions")[0]["min_p"] == 0.1

    def test_failing_reader_stops_the_server(self, serve):
        server = serve(Hangs("x" * 40))

        def broken(text):
            raise RuntimeError("broken reader")

        with pytest.raises(RuntimeError, match="broken reader"):
            steered(server, broken)
        assert server.hangs_up()


class TestR2P:
    def test_mistake_is_cut_off_and_resumed(self, serve):
        server = serve(Hangs(CUT), REST)
        with dspy.context(lm=lm(server), track_usage=True):
            answer = ask(program())
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stream")
        assert [(intervention.stage, intervention.check) for intervention in answer.interventions] == [
            ("evidence", "cited")
        ]
        assert server.hangs_up()
        assert server.prompts()[1].endswith(
            f"{GOOD[: GOOD.index(opening('evidence'))].rstrip()}"
            f"\n(Wait. There is no item 7; cite only 1, 2.)\n\n{opening('evidence')}\n"
        )
        (used,) = answer.get_lm_usage().values()
        assert used["completion_tokens"] == len(CUT) + len(REST) + 1

    def test_async_too(self, serve):
        server = serve(Hangs(CUT), REST)
        with dspy.context(lm=lm(server)):
            answer = asyncio.run(program().acall(film=FILM, profile=HISTORY))
        assert (answer.tag, answer.correction_mode, len(answer.interventions)) == ("romance", "stream", 1)
        assert server.hangs_up()

    @pytest.mark.parametrize("opens", ["<|assistant|>", "<|assistant|><think>\n"], ids=["none", "prefilled"])
    def test_native_thinking(self, serve, opens):
        wrong = thought(evidence=[])
        begins = "" if opens.endswith("\n") else "<think>\n"
        text = f"{begins}{wrong}\n</think>\n\n{ANSWER}"
        cut = text[: text.index("</evidence>") + len("</evidence>")]
        right = thought()
        rest = right[right.index("<evidence>") + len("<evidence>") :] + f"\n</think>\n\n{ANSWER}"
        server = serve(Hangs(cut), rest, opens=opens)
        with dspy.context(lm=lm(server, reasoning=True)):
            answer = ask(program(carrier="thinking"))
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stream")
        assert len(answer.interventions) == 1 and server.hangs_up()
        assert answer.reasoning.cited[0].id == "m7"
        assert server.prompts()[1].endswith("\n<evidence>\n")
        (chat,) = (body for body in server.bodies("/tokenize") if "messages" in body)
        assert chat["chat_template_kwargs"] == {"enable_thinking": True}

    def test_thought_becomes_a_thinking_part(self, serve):
        server = serve(f"Hm.\n</think>\n\n{ANSWER}", opens="<|assistant|><think>\n")
        answer = _complete(server)
        assert [part.type for part in answer.message.parts] == ["thinking", "text"]
        assert (answer.message.parts[0].text, answer.text) == ("Hm.", ANSWER)

    def test_threads_get_their_own_answers(self, serve):
        server = serve(GOOD, step=200)
        module = program()
        with dspy.context(lm=lm(server, temperature=1.0)):
            answers = dspy.Parallel(num_threads=16, disable_progress_bar=True)(
                [(module, {"film": f"film {number}", "profile": HISTORY}) for number in range(48)]
            )
        assert [(answer.tag, answer.correction_mode, answer.interventions) for answer in answers] == [
            ("romance", "stream", [])
        ] * 48
        films = {re.search(r"film \d+", prompt)[0] for prompt in server.prompts()}
        assert films == {f"film {number}" for number in range(48)}

    def test_concurrent_async_calls(self, serve):
        server = serve(GOOD, step=200)

        async def all_of_them():
            return await asyncio.gather(*(program().acall(film=FILM, profile=HISTORY) for _ in range(24)))

        with dspy.context(lm=lm(server, temperature=1.0)):
            assert [answer.tag for answer in asyncio.run(all_of_them())] == ["romance"] * 24

    def test_candidates_have_their_own_seeds(self, serve):
        server = serve(GOOD, step=50)
        with dspy.context(lm=lm(server, seed=5)):
            ask(program(candidates=3))
        seeds = [body["seed"] for body in server.bodies("/v1/completions")]
        assert len(set(seeds)) == 3

    def test_steered_calls_are_uncached_and_in_history(self, serve):
        server = serve(GOOD)
        served = lm(server, cache=True)
        with dspy.context(lm=served):
            ask(program())
            ask(program())
        assert len(server.prompts()) == len(served.history) == 2


def _complete(server):
    from dspy.lm15 import Reasoning

    request = Request("hosted_vllm/test", (Message.user("Tell me."),), config=Config(reasoning=Reasoning(effort="low")))
    with steering(lambda: Once(0, at=10**6)):
        return ServedEngine(vllm_at(server, 60.0), {}).complete(request)


MARKS = [ending(name) for name in STAGES if name != "tag"]


class Continues:
    """A model that continues a beginning: with its first text, or with its next one if the beginning is not of that."""

    def __init__(self, *texts):
        self.texts, self.base = list(texts), ""

    def __call__(self, body):
        last = body["messages"][-1]
        began = last["content"] if last["role"] == "assistant" else ""
        own = began.removeprefix(self.base).lstrip()
        if not (began.startswith(self.base) and self.texts[0].startswith(own)):
            if len(self.texts) == 1:
                return ""
            self.texts.pop(0)
            self.base, own = began, ""
        return self.texts[0][len(own) :]


class TestStages:
    """A server that continues an answer that has begun, and has no /tokenize."""

    def answers(self, serve, *texts, module=None, **options):
        server = serve(Continues(*texts), vllm=False)
        prefix = {"continue_final_message": True, "add_generation_prompt": False}
        with dspy.context(lm=lm(server, prefix=prefix, **options), track_usage=True):
            return ask(module or program()), server

    def test_good_answer_stage_by_stage(self, serve):
        answer, server = self.answers(serve, GOOD)
        assert (answer.tag, answer.violations, answer.correction_mode, answer.interventions) == (
            "romance",
            [],
            "stages",
            [],
        )
        bodies = server.bodies("/v1/chat/completions")
        assert [body.get("stop") for body in bodies] == [[mark] for mark in MARKS] + [None]
        assert bodies[0]["messages"][-1]["role"] == "user" and "continue_final_message" not in bodies[0]
        first = GOOD[: GOOD.index(MARKS[0])] + f"{MARKS[0]}\n"
        assert bodies[1]["messages"][-1] == {"role": "assistant", "content": first}
        assert bodies[1]["continue_final_message"] is True and bodies[1]["add_generation_prompt"] is False
        (used,) = answer.get_lm_usage().values()
        written = len(GOOD) - sum(len(mark) + 1 for mark in MARKS)
        assert (used["prompt_tokens"], used["completion_tokens"]) == (6 * 3, written)

    def test_mistake_is_corrected_before_the_next_stage(self, serve):
        answer, server = self.answers(serve, BAD, REST)
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stages")
        assert [(intervention.stage, intervention.check) for intervention in answer.interventions] == [
            ("evidence", "cited")
        ]
        beginnings = [body["messages"][-1]["content"] for body in server.bodies("/v1/chat/completions")[1:]]
        assert beginnings[1].endswith(f"cite only 1, 2.)\n\n{opening('evidence')}\n")
        assert not any("preferences" in text for text in beginnings[:2]), "no stage was written in vain"
        assert "Wait" not in str(answer.outcome)

    def test_native_thinking(self, serve):
        text = f"<think>\n{thought()}\n</think>\n\n{ANSWER}"
        answer, server = self.answers(serve, text, module=program(carrier="thinking"), reasoning=True)
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stages")
        beginnings = [body["messages"][-1]["content"] for body in server.bodies("/v1/chat/completions")]
        assert beginnings[0] == "<think>\n" and beginnings[1].endswith("the lighthouse film\n</requirements>\n")
        assert server.bodies("/v1/chat/completions")[0]["stop"] == ["</requirements>"]

    def test_missing_stage_is_noticed(self, serve):
        bad = completion(evidence=None)
        answer, _ = self.answers(serve, bad, REST)
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stages")
        assert [(intervention.stage, intervention.check) for intervention in answer.interventions] == [
            ("evidence", "stages")
        ]

    def test_empty_prefix_strips_trailing_space(self, serve):
        server = serve(Continues(GOOD), vllm=False)
        with dspy.context(lm=lm(server, prefix={})):
            assert ask(program()).tag == "romance"
        last = [body["messages"][-1]["content"] for body in server.bodies("/v1/chat/completions")[1:]]
        assert last and all(content == content.rstrip() for content in last)

    def test_async_too(self, serve):
        server = serve(Continues(GOOD), vllm=False)
        with dspy.context(lm=lm(server, prefix={})):
            answer = asyncio.run(program().acall(film=FILM, profile=HISTORY))
        assert (answer.tag, answer.correction_mode) == ("romance", "stages")

    def test_early_end_is_not_retried_forever(self, serve):
        with optimizing():
            answer, server = self.answers(serve, "So.", module=program(max_backtracks=0))
        assert answer.tag is None and len(server.requests) < 8

    def test_token_limit_spans_the_stages(self, serve):
        with optimizing():
            answer, server = self.answers(serve, GOOD, module=program(max_backtracks=0), max_tokens=100)
        limits = [body["max_tokens"] for body in server.bodies("/v1/chat/completions")]
        assert limits[0] == 100 > limits[1] and limits == sorted(limits, reverse=True) and limits[-1] > 0
        assert answer.tag is None


class TestWhatCannotBeSteered:
    def test_server_without_tokenize_falls_back_to_retry(self, serve):
        server = serve(BAD, GOOD, vllm=False)
        with dspy.context(lm=lm(server)):
            answer = ask(program())
            assert (answer.tag, answer.correction_mode, len(answer.attempts)) == ("romance", "retry", 2)
            ask(program())
        assert len(server.bodies("/tokenize")) == 1, "it has said so once"
        assert server.prompts() == []

    def test_server_without_tokenize_async(self, serve):
        server = serve(GOOD, vllm=False)
        with dspy.context(lm=lm(server)):
            answer = asyncio.run(program().acall(film=FILM, profile=HISTORY))
        assert (answer.tag, answer.correction_mode) == ("romance", "retry")

    def test_no_interventions_means_plain_calls(self, serve):
        server = serve(GOOD)
        with dspy.context(lm=lm(server)):
            assert ask(program(max_interventions=0)).correction_mode == "retry"
        assert [path for path, _ in server.requests] == ["/tokenize", "/v1/chat/completions"], (
            "how much fits, and the call"
        )


FAULTS = [
    ("it breaks off", Dies(GOOD[:50]), "broke off"),
    ("it ends without an end", Ends(GOOD[:50]), "broke off within an answer"),
    ("it ends within a tag", Ends("[[ ## requi"), "broke off within an answer"),
    ("it stalls", Stalls(GOOD[:50]), "no answer within 0.5 s"),
    ("it refuses", Refuses("temperature must be\nnon-negative"), "refused: .*temperature must be non-negative"),
]


class TestFaults:
    @pytest.mark.parametrize(("why", "text", "message"), FAULTS, ids=[fault[0] for fault in FAULTS])
    def test_server_fault_is_a_one_line_error(self, serve, why, text, message):
        server = serve(text)
        with (
            dspy.context(lm=lm(server, timeout=0.5 if isinstance(text, Stalls) else 60.0)),
            pytest.raises(dspy.LMError, match=message) as fault,
        ):
            ask(program())
        assert "\n" not in str(fault.value)
        assert len(server.prompts()) == 1, "no retries"

    def test_unreachable_server_is_a_one_line_error(self, serve):
        server = serve(GOOD)
        server.stop()
        with dspy.context(lm=lm(server)), pytest.raises(dspy.LMError, match="broke off: .*Connect call failed"):
            ask(program())

    def test_long_history_is_shortened(self, serve):
        server = serve(GOOD, context=5000)
        long = [*HISTORY, {"id": "m10", "text": "a long tale " * 400}]
        with dspy.context(lm=lm(server, max_tokens=1000)):
            answer = ask(program(), profile=long)
        assert answer.tag == "romance" and answer.truncated_chars > 1000
        (prompt,) = server.prompts()
        assert len(prompt) <= 4100 and "a lighthouse in the rain" in prompt and FILM in prompt

    def test_overlong_prompt_is_a_context_error(self, serve):
        server = serve(GOOD, context=100)
        with dspy.context(lm=lm(server)), pytest.raises(dspy.ContextWindowExceededError, match="context of 100"):
            ask(program())

    def test_cut_off_answer_is_never_accepted(self, serve):
        server = serve(GOOD)
        with dspy.context(lm=lm(server, max_tokens=40)), optimizing():
            answer = ask(program(max_backtracks=0))
        assert answer.tag is None and answer.violations

    def test_cancelled_task_stops_the_server(self, serve):
        server = serve(Hangs("x" * 100_000))
        engine = ThreadedEngine(ServedEngine(vllm_at(server, 60.0), {}))
        request = Request("hosted_vllm/test", (Message.user("Tell me."),))

        async def cancelled():
            task = asyncio.ensure_future(engine.complete(request))
            while server.written < 60:
                await asyncio.sleep(0.01)
            task.cancel()
            await task

        with steering(lambda: Once(0, at=10**6)), pytest.raises(asyncio.CancelledError):
            asyncio.run(cancelled())
        assert server.hangs_up() and server.written < 100_000


class TestKeys:
    def test_key_comes_from_the_environment(self, serve, monkeypatch):
        monkeypatch.setenv("HOSTED_VLLM_API_KEY", "of-the-environment")
        server = serve(GOOD)
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", server.api_base)
        with dspy.context(lm=connect("hosted_vllm/test", timeout=60.0)):
            assert ask(program()).correction_mode == "stream"
        assert server.keys == {"Bearer of-the-environment"}

    def test_key_argument_wins(self, serve, monkeypatch):
        monkeypatch.setenv("HOSTED_VLLM_API_KEY", "of-the-environment")
        server = serve(GOOD)
        with dspy.context(lm=connect("hosted_vllm/test", api_base=server.api_base, api_key="of-the-call", cache=False)):
            assert ask(program()).correction_mode == "stream"
        assert server.keys == {"Bearer of-the-call"}


def test_threads_share_a_server(serve):
    server = serve(GOOD, step=200)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: steered(server, Once(0, at=10**6)).text, range(24))) == {GOOD}
