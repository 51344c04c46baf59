"""Corrections and constraints on a real vLLM server with the pocket model: `make test ARGS="-m vllm -n 0"`."""

import asyncio
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dspy
import httpx
import pytest
from dspy.lm15 import Config, Message, Request

from programs.data.personas import MAKERS
from programs.data.personas.world import draw, example
from programs.tasks import TASKS
from programs.tasks.retrievers import default_retriever
from r2p_dspy import R2P, Suggest, optimizing
from r2p_dspy.decoding.constraining import Grammar, constraining
from r2p_dspy.decoding.notices import collect_notices
from r2p_dspy.decoding.steering import steering
from r2p_dspy.engines import connect
from r2p_dspy.engines.served.engine import ServedEngine
from r2p_dspy.prompting import tags
from r2p_dspy.template import TEMPLATE
from tests.film import FILM, HISTORY, program
from tests.r2p_dspy.decoding.test_steering import Once
from tests.served import vllm_at

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
UP = 280  # seconds in which a server has to come up
LATE = 100  # tokens that it may write until it hears that it is stopped

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


class Running:
    """A server, and what it tells of its work."""

    def __init__(self, url):
        self.url = url
        self.api_base = f"{url}/v1"

    def metric(self, name):
        """The sum of a metric."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"vllm:{name}[{{ ]", line))

    def idle(self):
        """Wait until nothing runs, and return the tokens generated so far."""
        deadline = time.monotonic() + 30
        while self.metric("num_requests_running") or self.metric("num_requests_waiting"):
            assert time.monotonic() < deadline, "the server works on"
            time.sleep(0.1)
        return self.metric("generation_tokens_total")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server at R2P_VLLM_URL, else one that is started for these tests."""
    if url := os.environ.get("R2P_VLLM_URL"):
        yield Running(url.rstrip("/").removesuffix("/v1"))
        return
    if not PYTHON.exists():
        pytest.skip("no vLLM here: make vllm sets it up, or R2P_VLLM_URL names a server with the pocket model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "log.txt"
    arguments = f"VLLM_PORT={port}", "ARGS=--host 127.0.0.1 --trust-request-chat-template"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["make", "--silent", "vllm", *arguments], cwd=ROOT, stdout=out, stderr=out, start_new_session=True
        )
    running = Running(f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + UP
        while not _answers(running.url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield running
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _answers(url):
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except OSError:
        return False


def lm(server, mode="stream", carrier="fields", **options):
    """The pocket model on the server, reached so that this is the best correction mode but "retry"."""
    settings = {"api_base": server.api_base, "max_tokens": 600, "cache": False, "num_retries": 0, "timeout": 120.0}
    if mode == "stages":
        settings["prefix"] = {"continue_final_message": True, "add_generation_prompt": False}
    if carrier == "thinking":
        settings["reasoning"] = True
    return connect("openai/pocket" if mode == "stages" else "hosted_vllm/pocket", **{**settings, **options})


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.delenv("HOSTED_VLLM_API_BASE", raising=False)


# No model gets past it, so that there is something to correct.
NEVER = Suggest(lambda inputs, outcome: (False, "Say it in other words."), after="requirements", name="never")


TASK = TASKS["lamp2"]  # which the weights know: nothing is to be corrected but what a test wants corrected
USERS = [example(TASK, case) for case in draw(MAKERS["lamp2"], "held-out", 4)]


def known(**options):
    """An R2P program on that task; free, unless it is to be constrained."""
    options = {"constrain": "off", **options}
    return R2P(TASK.signature, retriever=default_retriever(TASK), checks=[NEVER], **options)


def run(module, lm, how, user):
    with dspy.context(lm=lm, track_usage=True), optimizing():
        return module(**user.inputs()) if how == "sync" else asyncio.run(module.acall(**user.inputs()))


def test_plain_call(server):
    (text,) = lm(server, max_tokens=None)("Hello")
    assert text


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("carrier", ["fields", "thinking"])
@pytest.mark.parametrize("mode", ["stream", "stages", "retry"])
def test_correction_modes_and_carriers(server, mode, carrier, how):
    served = lm(server, mode, carrier)
    for user in USERS:
        before = server.idle()
        limits = {"max_interventions": 0} if mode == "retry" else {}
        answer = run(known(carrier=carrier, max_backtracks=1, **limits), served, how, user)
        assert answer.correction_mode == mode
        interventions = [] if mode == "retry" else [("requirements", "never")] * 2
        assert [(intervention.stage, intervention.check) for intervention in answer.interventions] == interventions
        assert [verdict.check for verdict in answer.violations] == ["never"], "all else holds"
        assert len(answer.attempts) == (2 if mode == "retry" else 4)
        assert answer.tag is not None and answer.reasoning.cited
        (used,) = answer.get_lm_usage().values()
        assert 0 <= server.idle() - before - used["completion_tokens"] <= LATE * len(answer.interventions)


def test_server_under_another_name_is_found_by_asking(server):
    found = connect("openai/pocket", api_base=server.api_base, max_tokens=600, cache=False, num_retries=0)
    assert (found.constrains, found.context_window) == ("grammar", 4096)
    assert run(known(), found, "sync", USERS[0]).correction_mode == "stream"


SAID = "an orange umbrella"  # what the pocket model would not say of a film by itself


def around(before, after):
    """JSON with a free word in it."""
    return f"{json.dumps(before)} /[a-z]{{4,12}}/ {json.dumps(after)}"


STAGES = {
    "requirements": json.dumps(SAID),
    "evidence": around('[{"item": "1", "quote": "', '"}]'),
    "preferences": around('[{"statement": "', '", "items": ["1"], "label": "comedy"}]'),
    "draft": '"romance"',
    "verification": around('{"approved": true, "reason": "', '"}'),
}


class Form:
    """A constraint: marks, the value after each mark as an expression of llguidance's, and an end."""

    def __init__(self, parts, end, start=""):
        self.parts, self.end, self.start = parts, end, start

    def grammar(self, text, /, *, whole=False):
        marks = [mark for mark, _ in self.parts]
        begun = [at for at, mark in enumerate(marks) if text.rstrip().endswith(mark.strip())]
        first = max(begun, default=0)
        lead = "" if begun else f"{self.start} {json.dumps(marks[0])} "
        rest = "".join(f" {json.dumps(mark)} {value}" for mark, value in self.parts[first + 1 :])
        return Grammar(f"%llguidance {{}}\nstart: {lead}{self.parts[first][1]}{rest} {json.dumps(self.end)}")

    def schema(self):
        return None


def marked(names, answer):
    """The parts of an answer with the chat adapter's markers."""
    values = {**STAGES, "tag": '"comedy"'}
    parts = [(f"\n\n[[ ## {name} ## ]]\n", values[name]) for name in names]
    return [(parts[0][0] if answer else parts[0][0].lstrip(), parts[0][1]), *parts[1:]]


def form(carrier):
    """The form of an answer on a carrier; an answer in JSON is one of the fields carrier."""
    end = "\n\n[[ ## completed ## ]]"
    if carrier == "fields":
        return Form(marked([*STAGES, "tag"], answer=False), end)
    if carrier == "json":
        quoted = {"requirements": json.dumps(json.dumps(SAID)), "draft": '"\\"romance\\""'}
        values = {**STAGES, **quoted, "tag": '"\\"comedy\\""'}
        return Form(
            [(f'{"," if at else "{"} "{name}": ', value) for at, (name, value) in enumerate(values.items())], "}"
        )
    names = [stage.name for stage in TEMPLATE.leaves()]
    first, *between, closing = tags.render(TEMPLATE, dict.fromkeys(names, "\0")).split("\0")
    parts = [(mark, STAGES[name]) for mark, name in zip([first, *between], names, strict=True)]
    (mark, value), *_ = marked(["tag"], answer=True)
    return Form([*parts, (f"{closing}\n</think>{mark}", value)], end, start=f"({json.dumps('<think>' + chr(10))})?")


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("steered", [True, False], ids=["steered", "not steered"])
@pytest.mark.parametrize("carrier", ["fields", "thinking", "json"])
def test_every_carrier_constrained(server, carrier, steered, how):
    served = lm(server, carrier=carrier, temperature=1.0)
    adapter = dspy.JSONAdapter() if carrier == "json" else dspy.ChatAdapter()
    program = known(
        carrier="thinking" if carrier == "thinking" else "fields",
        max_backtracks=0,
        max_interventions=2 if steered else 0,
    )
    for user in USERS[:2]:
        with dspy.context(adapter=adapter), constraining(form(carrier)):
            answer = run(program, served, how, user)
        said = answer.reasoning.stages
        assert (said["requirements"], said["draft"], answer.tag) == (SAID, "romance", "comedy")
        assert [each.item for each in said["evidence"]] == ["1"] and answer.outcome.error is None
        assert answer.warnings == []
        corrected = steered and carrier != "json"
        assert answer.correction_mode == ("stream" if corrected else "retry")
        assert [each.stage for each in answer.interventions] == ["requirements"] * 2 * corrected
    assert served.constrains == "grammar"


@pytest.mark.parametrize(
    "carrier, adapter",
    [
        ("fields", dspy.ChatAdapter),
        ("thinking", dspy.ChatAdapter),
        ("fields", dspy.JSONAdapter),
        ("fields", dspy.XMLAdapter),
    ],
)
def test_grammar_of_template_and_items(server, carrier, adapter):
    served = lm(server, carrier=carrier, temperature=1.0)
    constrained = known(carrier=carrier, constrain="on", max_backtracks=0, max_interventions=0)
    for user in USERS[:2]:
        with dspy.context(adapter=adapter()):
            answer = run(constrained, served, "sync", user)
        assert (answer.correction_mode, answer.warnings) == ("constrained", [])
        assert not {"parsed", "stages", "cited", "quoted"} & {verdict.check for verdict in answer.violations}


def test_refused_grammar_is_left_out_and_said(server):
    served = lm(server, timeout=119.0)  # of its own, since what is refused once is not sent again
    with constraining(Form([("", "no_such_rule")], "")), collect_notices() as notices:
        (text,), _ = served("Hello"), served("Hello")
    assert text and served.constrains == "schema"
    assert len(notices) == 1 and "refused the grammar of an answer" in notices[0] and "no_such_rule" in notices[0]


def test_uncorrected_answer_equals_in_process(server):
    with optimizing():
        texts = []
        for model in (connect("pocket", max_tokens=600, cache=False), lm(server)):
            with dspy.context(lm=model):
                program(max_backtracks=0)(film=FILM, profile=HISTORY)
            texts.append(str(model.history[-1]["outputs"]))
    assert texts[0] == texts[1]


def _steered(server, reader, **config):
    request = Request("hosted_vllm/pocket", (Message.user("Tell me a story."),), config=Config(**config))
    with steering(lambda: reader):
        return ServedEngine(vllm_at(server, 120.0), {"ignore_eos": True}).complete(request)


def test_stopped_stream_stops_the_server(server):
    before = server.idle()

    class Enough(Exception):
        pass

    def reader(text):
        if len(text) > 20:
            raise Enough

    with pytest.raises(Enough):
        _steered(server, reader, max_tokens=3500, temperature=1.0, seed=1)
    written = server.idle() - before
    print(f"stopped after {written:g} of 3500 tokens")
    assert written < 350


def test_discarded_tokens_are_counted(server):
    before = server.idle()
    answer = _steered(server, Once(5, at=1000), max_tokens=1000, temperature=1.0, seed=1)
    assert answer.text[5:].startswith(" so: ") and "Wait" not in answer.text
    assert answer.usage.output_tokens == 1000, "its limit holds for both stretches together"
    assert 0 <= server.idle() - before - answer.usage.output_tokens <= LATE


def test_cancelled_task_stops_the_server(server):
    before = server.idle()

    async def cancelled():
        task = asyncio.ensure_future(program().acall(film=FILM, profile=HISTORY))
        while not server.metric("num_requests_running"):
            await asyncio.sleep(0.02)
        task.cancel()
        await task

    extra = {"ignore_eos": True, "min_tokens": 3000}
    with dspy.context(lm=lm(server, extra_body=extra, max_tokens=3000)), pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert server.idle() - before < 1500


def test_threads_get_their_own_answers(server):
    def answer(number):
        return _steered(server, Once(number % 16), max_tokens=60, temperature=1.0, seed=number).text

    with ThreadPoolExecutor(32) as pool:
        texts = list(pool.map(answer, range(32)))
    assert all(text[number % 16 :].startswith(" so: ") for number, text in enumerate(texts))
    assert len(set(texts)) == 32


def test_seed_repeats_an_answer(server):
    first, second = (_steered(server, Once(0, at=10**6), max_tokens=40, temperature=1.0, seed=7).text for _ in range(2))
    assert first == second


TEMPLATES = {  # of TRL: what the chat route makes of a thought that has begun
    "deepseek_r1_distill": True,
    "qwen3": False,
    "qwen3_5_think": False,
    "qwen3_instruct_2507": True,
}


@pytest.mark.parametrize(("name", "honoured"), TEMPLATES.items())
def test_routes_that_continue_a_thought(server, name, honoured):
    """By token ids every template goes on where it was; by `continue_final_message` not all do."""
    trl = importlib.util.find_spec("trl")
    path = Path(trl.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja" if trl else None
    if path is None or not path.exists():
        pytest.skip("TRL and its chat templates are not installed")
    began = "<think>\n<analyse>\nA film"
    messages = [{"role": "user", "content": "Which?"}]

    def rendered(messages, **how):
        how = {"chat_template": path.read_text(), "messages": messages, "model": "pocket", **how}
        ids = httpx.post(f"{server.url}/tokenize", json=how, timeout=60).json()["tokens"]
        body = {"model": "pocket", "tokens": ids}
        return httpx.post(f"{server.url}/detokenize", json=body, timeout=60).json()["prompt"]

    prompt = rendered(messages, add_generation_prompt=True)
    by_ids = prompt + (began.removeprefix("<think>\n") if prompt.endswith("<think>\n") else began)
    assert by_ids.count("<think>") == 1 and "</think>" not in by_ids
    continued = [*messages, {"role": "assistant", "content": began}]
    by_chat = rendered(continued, add_generation_prompt=False, continue_final_message=True)
    assert (by_chat.count("<think>") == 1 and "</think>" not in by_chat) == honoured
