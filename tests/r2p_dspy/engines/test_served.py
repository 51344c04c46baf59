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
from r2p_dspy.engines.served.engine import ServedEngine, ThreadedEngine
from r2p_dspy.engines.served.server import Server
from tests.film import FILM, HISTORY, ask, program
from tests.r2p_dspy.decoding.test_steering import Once
from tests.r2p_dspy.modules.test_thinking import ANSWER, thought
from tests.scripted import STAGES, completion
from tests.served import Dies, Ends, Hangs, Refuses, ScriptedServer, Stalls

EVIDENCE = STAGES["evidence"]
GOOD = completion()
BAD = completion(evidence=EVIDENCE.replace('"1"', '"7"'))
REST = f"{EVIDENCE}\n\n" + GOOD[GOOD.index("[[ ## preferences") :]
CUT = BAD[: BAD.index("[[ ## preferences ## ]]") + len("[[ ## preferences ## ]]")]  # where the mistake shows


@pytest.fixture
def serve(monkeypatch):
    """serve(text, …) starts a server that writes these texts."""
    monkeypatch.delenv("HOSTED_VLLM_API_KEY", raising=False)
    monkeypatch.delenv("HOSTED_VLLM_API_BASE", raising=False)
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
        return ServedEngine(Server(server.api_base, "none", timeout), dict(extra)).complete(request)


class TestSegments:
    def test_without_a_correction_the_answer_is_the_servers(self, serve):
        server = serve("It is so.")
        answer = steered(server, Once(0, at=10**6), max_tokens=50, temperature=0.5, top_p=0.9)
        assert (answer.text, answer.finish_reason) == ("It is so.", "stop")
        (asked,) = server.bodies("/v1/completions")
        assert server.prompts() == ["<|user|>Tell me.<|assistant|>"]
        wanted = {"max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "stream": True, "model": "test"}
        assert wanted.items() <= asked.items() and "seed" not in asked and "stop" not in asked

    @pytest.mark.parametrize("ids", [True, False], ids=["ids", "no ids"])
    @pytest.mark.parametrize("step", [1, 7])
    @pytest.mark.parametrize("kept", [0, 1, 13, 30])
    def test_it_goes_on_after_what_was_kept_the_note_and_the_opening(self, serve, kept, step, ids):
        text = "0123456789" * 4
        server = serve(Hangs(text), "at last.", step=step, ids=ids)
        answer = steered(server, Once(kept))
        assert answer.text == f"{text[:kept]} so: at last."
        assert server.prompts()[1] == f"<|user|>Tell me.<|assistant|>{text[:kept]} (Wait.) so: "

    def test_the_server_is_stopped_and_all_that_it_wrote_is_counted(self, serve):
        server = serve(Hangs("x" * 35), "y" * 7, step=5)
        answer = steered(server, Once(3))
        assert server.hangs_up() and server.written == 42
        # 30 characters are enough for the reader, and the rest was thrown away with them; the last token ends the turn.
        assert answer.usage.output_tokens == 30 + 7 + 1
        assert answer.usage.input_tokens == sum(len(prompt) for prompt in server.prompts())

    def test_a_cut_within_an_earlier_opening_works_too(self, serve):
        corrections = [Correction(10, "", " so: we say "), Correction(14, " (Hm.)", " that is ")]
        server = serve(Hangs("0123456789" * 3), Hangs("nothing at all"), "it.")

        def reader(text):
            return corrections.pop(0) if corrections and len(text) >= 26 else None

        assert steered(server, reader).text == "0123456789 so: that is it."
        assert server.prompts()[2].endswith("|>0123456789 so: (Hm.) that is ")

    def test_who_always_corrects_gets_no_more_tokens_than_the_call_was_given(self, serve):
        server = serve(Hangs("abcdefgh"))
        answer = steered(server, lambda text: Correction(0, "", "x") if len(text) > 4 else None, max_tokens=20)
        assert answer.usage.output_tokens == 20 and answer.finish_reason in ("length", "stop")
        assert [body["max_tokens"] for body in server.bodies("/v1/completions")] == [20, 15, 11, 7, 3]

    def test_nor_than_the_context_holds(self, serve):
        server = serve(Hangs("x" * 40), context=70)
        assert steered(server, Once(30, opening="y" * 12)).text == "x" * 30

    def test_a_seed_makes_each_stretch_its_own_numbers(self, serve):
        server = serve(Hangs("x" * 40), "y")
        steered(server, Once(0), seed=3)
        first, second = (body["seed"] for body in server.bodies("/v1/completions"))
        assert second == first + 1

    def test_stop_strings_are_looked_for_here(self, serve):
        server = serve(Hangs("so far so good"))
        answer = steered(server, Once(0, at=10**6), stop=("ood",))
        assert (answer.text, answer.finish_reason) == ("so far so g", "stop")
        assert server.hangs_up()

    def test_settings_of_the_server_and_of_its_chat_template(self, serve):
        server = serve("x")
        extra = {"min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}}
        steered(server, Once(0), extra=extra)
        assert server.bodies("/tokenize")[0]["chat_template_kwargs"] == {"enable_thinking": False}
        assert server.bodies("/v1/completions")[0]["min_p"] == 0.1

    def test_a_reader_that_fails_stops_the_server(self, serve):
        server = serve(Hangs("x" * 40))

        def broken(text):
            raise RuntimeError("broken reader")

        with pytest.raises(RuntimeError, match="broken reader"):
            steered(server, broken)
        assert server.hangs_up()


class TestR2P:
    def test_a_mistake_is_cut_off_and_the_model_goes_on(self, serve):
        server = serve(Hangs(CUT), REST)
        with dspy.context(lm=lm(server), track_usage=True):
            answer = ask(program())
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stream")
        assert [(one.stage, one.check) for one in answer.interventions] == [("evidence", "cited")]
        assert server.hangs_up()
        assert server.prompts()[1].endswith(
            f"{STAGES['requirements']}\n(Wait. There is no item 7; cite only 1, 2.)\n\n[[ ## evidence ## ]]\n"
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
    def test_in_the_native_thinking(self, serve, opens):
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

    def test_its_thought_is_a_thought_for_dspy_too(self, serve):
        server = serve(f"Hm.\n</think>\n\n{ANSWER}", opens="<|assistant|><think>\n")
        answer = _complete(server)
        assert [part.type for part in answer.message.parts] == ["thinking", "text"]
        assert (answer.message.parts[0].text, answer.text) == ("Hm.", ANSWER)

    def test_many_threads_mix_up_nothing(self, serve):
        server = serve(GOOD, step=200)
        module = program()
        with dspy.context(lm=lm(server, temperature=1.0)):
            made = dspy.Parallel(num_threads=16, disable_progress_bar=True)(
                [(module, {"film": f"film {number}", "profile": HISTORY}) for number in range(48)]
            )
        assert [(one.tag, one.correction_mode, one.interventions) for one in made] == [("romance", "stream", [])] * 48
        films = {re.search(r"film \d+", prompt)[0] for prompt in server.prompts()}
        assert films == {f"film {number}" for number in range(48)}

    def test_many_async_calls_at_once(self, serve):
        server = serve(GOOD, step=200)

        async def all_of_them():
            return await asyncio.gather(*(program().acall(film=FILM, profile=HISTORY) for _ in range(24)))

        with dspy.context(lm=lm(server, temperature=1.0)):
            assert [one.tag for one in asyncio.run(all_of_them())] == ["romance"] * 24

    def test_candidates_are_samples_of_their_own(self, serve):
        server = serve(GOOD, step=50)
        with dspy.context(lm=lm(server, seed=5)):
            ask(program(candidates=3))
        seeds = [body["seed"] for body in server.bodies("/v1/completions")]
        assert len(set(seeds)) == 3

    def test_nothing_is_cached_and_the_history_says_it(self, serve):
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
        return ServedEngine(Server(server.api_base, "none", 60.0), {}).complete(request)


MARKS = [f"[[ ## {name} ## ]]" for name in list(STAGES)[1:]]  # each ends a stage


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

    def test_a_good_answer_is_written_stage_by_stage(self, serve):
        answer, server = self.answers(serve, GOOD)
        assert (answer.tag, answer.violations, answer.correction_mode, answer.interventions) == (
            "romance",
            [],
            "stages",
            [],
        )
        asked = server.bodies("/v1/chat/completions")
        assert [body.get("stop") for body in asked] == [[mark] for mark in MARKS] + [None]
        assert asked[0]["messages"][-1]["role"] == "user" and "continue_final_message" not in asked[0]
        first = GOOD[: GOOD.index(MARKS[0])] + f"{MARKS[0]}\n"
        assert asked[1]["messages"][-1] == {"role": "assistant", "content": first}
        assert asked[1]["continue_final_message"] is True and asked[1]["add_generation_prompt"] is False
        (used,) = answer.get_lm_usage().values()
        written = len(GOOD) - sum(len(mark) + 1 for mark in MARKS)
        assert (used["prompt_tokens"], used["completion_tokens"]) == (6 * 3, written)

    def test_a_mistake_is_corrected_before_the_next_stage(self, serve):
        answer, server = self.answers(serve, BAD, REST)
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stages")
        assert [(one.stage, one.check) for one in answer.interventions] == [("evidence", "cited")]
        beginnings = [body["messages"][-1]["content"] for body in server.bodies("/v1/chat/completions")[1:]]
        assert beginnings[1].endswith("cite only 1, 2.)\n\n[[ ## evidence ## ]]\n")
        assert not any("preferences" in one for one in beginnings[:2]), "no stage was written in vain"
        assert "Wait" not in str(answer.outcome)

    def test_in_the_native_thinking(self, serve):
        text = f"<think>\n{thought()}\n</think>\n\n{ANSWER}"
        answer, server = self.answers(serve, text, module=program(carrier="thinking"), reasoning=True)
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stages")
        beginnings = [body["messages"][-1]["content"] for body in server.bodies("/v1/chat/completions")]
        assert beginnings[0] == "<think>\n" and beginnings[1].endswith("the lighthouse film\n</requirements>\n")
        assert server.bodies("/v1/chat/completions")[0]["stop"] == ["</requirements>"]

    def test_a_stage_that_is_left_out_is_noticed_though_its_end_never_comes(self, serve):
        bad = GOOD.replace(f"[[ ## evidence ## ]]\n{EVIDENCE}\n\n", "")
        answer, _ = self.answers(serve, bad, REST)
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stages")
        assert [(one.stage, one.check) for one in answer.interventions] == [("evidence", "stages")]

    def test_a_server_that_needs_no_telling_gets_no_white_space_at_the_end(self, serve):
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

    def test_a_model_that_ends_too_early_is_not_asked_for_ever(self, serve):
        with optimizing():
            answer, server = self.answers(serve, "So.", module=program(max_backtracks=0))
        assert answer.tag is None and len(server.requests) < 8

    def test_it_takes_no_more_tokens_than_the_call_was_given(self, serve):
        with optimizing():
            answer, server = self.answers(serve, GOOD, module=program(max_backtracks=0), max_tokens=100)
        limits = [body["max_tokens"] for body in server.bodies("/v1/chat/completions")]
        assert limits[0] == 100 > limits[1] and limits == sorted(limits, reverse=True) and limits[-1] > 0
        assert answer.tag is None


class TestWhatCannotBeSteered:
    def test_a_server_without_tokenize_is_asked_again_instead(self, serve):
        server = serve(BAD, GOOD, vllm=False)
        with dspy.context(lm=lm(server)):
            answer = ask(program())
            assert (answer.tag, answer.correction_mode, len(answer.attempts)) == ("romance", "retry", 2)
            ask(program())
        assert len(server.bodies("/tokenize")) == 1, "it has said so once"
        assert server.prompts() == []

    def test_and_so_it_is_async(self, serve):
        server = serve(GOOD, vllm=False)
        with dspy.context(lm=lm(server)):
            answer = asyncio.run(program().acall(film=FILM, profile=HISTORY))
        assert (answer.tag, answer.correction_mode) == ("romance", "retry")

    def test_without_interventions_calls_are_dspys_own(self, serve):
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
    ("it stalls", Stalls(GOOD[:50]), "sent nothing for 0.1 s"),
    ("it refuses", Refuses("temperature must be\nnon-negative"), "refused: .*temperature must be non-negative"),
]


class TestFaults:
    @pytest.mark.parametrize(("why", "text", "said"), FAULTS, ids=[one[0] for one in FAULTS])
    def test_the_caller_gets_one_clear_line(self, serve, why, text, said):
        server = serve(text)
        with (
            dspy.context(lm=lm(server, timeout=0.1 if isinstance(text, Stalls) else 60.0)),
            pytest.raises(dspy.LMError, match=said) as fault,
        ):
            ask(program())
        assert "\n" not in str(fault.value)
        assert len(server.prompts()) == 1, "no retries"

    def test_so_does_one_who_reaches_no_server(self, serve):
        server = serve(GOOD)
        server.stop()
        with dspy.context(lm=lm(server)), pytest.raises(dspy.LMError, match="broke off: .*refused"):
            ask(program())

    def test_a_history_that_does_not_fit_the_servers_context_is_shortened(self, serve):
        server = serve(GOOD, context=5000)
        long = [*HISTORY, {"id": "m10", "text": "a long tale " * 400}]
        with dspy.context(lm=lm(server, max_tokens=1000)):
            answer = ask(program(), profile=long)
        assert answer.tag == "romance" and answer.truncated_chars > 1000
        (prompt,) = server.prompts()
        assert len(prompt) <= 4100 and "a lighthouse in the rain" in prompt and FILM in prompt

    def test_a_prompt_that_does_not_fit_says_both_numbers(self, serve):
        server = serve(GOOD, context=100)
        with dspy.context(lm=lm(server)), pytest.raises(dspy.ContextWindowExceededError, match="context of 100"):
            ask(program())

    def test_an_answer_that_has_no_room_is_mended_or_raised_but_never_half(self, serve):
        server = serve(GOOD)
        with dspy.context(lm=lm(server, max_tokens=40)), optimizing():
            answer = ask(program(max_backtracks=0))
        assert answer.tag is None and answer.violations

    def test_cancelling_a_task_stops_the_server(self, serve):
        server = serve(Hangs("x" * 100_000))
        engine = ThreadedEngine(ServedEngine(Server(server.api_base, "none", 60.0), {}))
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
    def test_the_key_comes_from_the_environment(self, serve, monkeypatch):
        monkeypatch.setenv("HOSTED_VLLM_API_KEY", "of-the-environment")
        server = serve(GOOD)
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", server.api_base)
        with dspy.context(lm=connect("hosted_vllm/test", timeout=60.0)):
            assert ask(program()).correction_mode == "stream"
        assert server.keys == {"Bearer of-the-environment"}

    def test_and_from_nowhere_else(self):
        with pytest.raises(ValueError, match="api_key: set the key in the environment"):
            connect("hosted_vllm/test", api_key="of-the-call")


def test_threads_share_a_server(serve):
    server = serve(GOOD, step=200)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: steered(server, Once(0, at=10**6)).text, range(24))) == {GOOD}
