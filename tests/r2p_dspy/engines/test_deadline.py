"""Every call of a served model ends, whatever its server does, and leaves nothing behind."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dspy
import pytest
from dspy.utils.exceptions import (
    LMError,
    LMInvalidRequestError,
    LMProviderError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
)

from r2p_dspy import R2P, ConfigError, connect
from r2p_dspy.engines.served import deadline
from r2p_dspy.engines.served.bounded import BoundedLM
from tests.faulty import FAULTS, FaultyServer

NATIVE, LITELLM = {"model": "openai/m"}, {"model": "openai/m", "engine": "litellm"}
OTHER_PROVIDERS = {"model": "hosted_vllm/m", "engine": "litellm"}
LMS = [pytest.param(how, id=f"{how['model']} {how.get('engine', '')}") for how in (NATIVE, LITELLM, OTHER_PROVIDERS)]

ERRORS = {
    "429": LMRateLimitError,
    "500": LMServerError,
    "502": LMServerError,
    "400": LMInvalidRequestError,
    "reset": (LMTransportError, LMServerError),
    "short body": (LMServerError, LMTransportError),
    "html": LMServerError,
    "garbage": LMServerError,
    "hang": LMTimeoutError,
    "headers": LMTimeoutError,
    "drip": LMTimeoutError,
    "endless": LMProviderError,
    "dies": (LMTransportError, LMServerError),
    "retry-after": (LMTimeoutError, LMRateLimitError),  # LiteLLM keeps the server's wish to itself
}

BROKEN_OFF = ("reset", "hang", "headers", "drip", "endless", "dies")


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in ("OPENAI_API_KEY", "HOSTED_VLLM_API_KEY"):
        monkeypatch.setenv(name, "none")


@pytest.fixture(scope="module", autouse=True)
def _warm():
    """LiteLLM's imports, which come with its first call, take seconds."""
    with FaultyServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "none")
        served(server, engine="litellm")("2 + 2?")


def served(server, model="openai/m", **how):
    return connect(model, api_base=server.api_base, cache=False, **how)


def sockets():
    """Open sockets of this process."""
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return sum(link.is_symlink() and "socket" in os.readlink(link) for link in links if link.exists())  # noqa: PTH115


class TestFaults:
    def test_table_names_every_fault(self):
        assert set(ERRORS) == set(FAULTS)

    @pytest.mark.parametrize("how", LMS)
    @pytest.mark.parametrize("fault", FAULTS)
    def test_call_ends_in_time_with_an_error_of_dspy(self, fault, how):
        with FaultyServer(fault) as server:
            lm, started = (
                served(server, **how, timeout=1.5, num_retries=0 if fault != "retry-after" else 1),
                time.time(),
            )
            with pytest.raises(ERRORS[fault]) as error:
                lm("2 + 2?")
            assert time.time() - started < 5
            assert isinstance(error.value, LMError)
            if fault in BROKEN_OFF:
                assert server.hung_up()

    @pytest.mark.parametrize("fault", ["hang", "drip", "endless", "html"])
    def test_async_call_ends_too(self, fault):
        async def ask():
            with FaultyServer(fault) as server, pytest.raises(ERRORS[fault]):
                await served(server, timeout=0.5, num_retries=0).acall("2 + 2?")

        asyncio.run(asyncio.wait_for(ask(), 5))

    @pytest.mark.parametrize("fault", ["html", "short body", "garbage"])
    @pytest.mark.parametrize("how", [NATIVE, OTHER_PROVIDERS])
    def test_reply_that_is_no_json_is_asked_for_again(self, fault, how):
        with FaultyServer(lambda number: "" if number == 1 else fault) as server:
            assert "4" in served(server, **how)("2 + 2?")[0]
            assert len(server.requests) == 2

    def test_one_retry_of_a_reply_that_is_no_json_is_one(self):
        with FaultyServer("html") as server:
            with pytest.raises(LMServerError, match="is not JSON.*log in"):
                served(server, num_retries=1)("2 + 2?")
            assert len(server.requests) == 2

    def test_too_large_response_is_not_asked_for_again_and_costs_its_bound(self):
        with FaultyServer("endless") as server:
            lm = served(server, num_retries=3).copy(max_bytes=300_000)
            with pytest.raises(LMProviderError, match=r"more than 0\.3 MB"):
                lm("2 + 2?")
            assert len(server.requests) == 1

    def test_large_responses_are_bounded_together(self, monkeypatch):
        monkeypatch.setattr(deadline, "_MAX_TOGETHER", 5_000_000)
        with FaultyServer("endless") as server, ThreadPoolExecutor(16) as pool:
            lm = served(server, num_retries=0)
            errors = [pool.submit(lm, "2 + 2?").exception for _ in range(16)]
            assert any("all in flight more than 5 MB" in str(error()) for error in errors)
            assert {error().code for error in errors} == {"response_too_large"}

    def test_large_response_within_the_bound_is_an_answer(self):
        with FaultyServer(text="é" * 1_000_000) as server:
            lm = served(server)
            for _ in range(5):  # on one connection: the bound is each response's own
                assert len(lm("2 + 2?")[0]) == 1_000_000


class TestDeadline:
    def test_retries_and_their_pauses_count(self):
        with FaultyServer("500") as server:
            started = time.time()
            with pytest.raises(LMTimeoutError, match=r"no answer within 1 s \(the last attempt: .*refused with 500"):
                served(server, timeout=1, num_retries=50)("2 + 2?")
            assert time.time() - started < 3

    def test_default_is_two_minutes(self):
        assert connect("openai/m").kwargs["timeout"] == 120
        assert "timeout" not in connect("openai/m", timeout=None).kwargs

    @pytest.mark.parametrize("timeout", [0, -1])
    def test_timeout_must_be_positive(self, timeout):
        with pytest.raises(ConfigError, match="timeout must be above 0 seconds"):
            connect("openai/m", timeout=timeout)

    def test_a_call_may_have_its_own(self):
        with FaultyServer("hang") as server, pytest.raises(LMTimeoutError, match=r"within 0\.3 s"):
            served(server)("2 + 2?", timeout=0.3)

    def test_copy_and_saved_state_keep_it(self):
        lm = connect("openai/m", timeout=7)
        assert lm.copy(temperature=1.0).kwargs["timeout"] == 7
        assert lm.dump_state()["timeout"] == 7
        assert isinstance(BoundedLM.load_state(lm.dump_state()), BoundedLM)

    def test_earliest_moment_of_blocks_within_blocks_holds(self):
        began = time.monotonic()
        with FaultyServer("hang") as server, deadline.until(began + 0.3), deadline.until(None):
            with deadline.until(began + 60), pytest.raises(LMTimeoutError, match="within 30 s"):
                served(server, timeout=30)("2 + 2?")
        assert time.monotonic() - began < 10

    def test_plain_predict_has_it(self):
        with FaultyServer("hang") as server, dspy.context(lm=served(server, timeout=0.5)):
            with pytest.raises(LMTimeoutError, match=r"no answer within 0\.5 s"):
                dspy.Predict("question -> answer")(question="2 + 2?")

    def test_many_calls_of_a_hanging_server_leave_nothing_behind(self):
        faults = ["hang"]
        with FaultyServer(lambda number: faults[0]) as server:
            lm = served(server, timeout=0.1, num_retries=0)
            sizes = [self.size_after_calls(lm, server) for _ in range(3)]
            assert sizes[2][0] <= sizes[1][0] + 5 and sizes[2][1] <= sizes[1][1] + 5
            faults[0] = ""
            assert "4" in lm("2 + 2?", timeout=5)[0]  # its connections are free again

    @staticmethod
    def size_after_calls(lm, server, calls=150):
        """Open sockets and threads after calls that are all given up."""
        with ThreadPoolExecutor(50) as pool:
            errors = [pool.submit(lm, "2 + 2?").exception for _ in range(calls)]
            assert all(isinstance(error(), LMTimeoutError) for error in errors)
        assert server.hung_up()
        return sockets(), threading.active_count()

    def test_forked_process_makes_calls_of_its_own(self):
        with FaultyServer() as server:
            lm = served(server, timeout=10)
            lm("2 + 2?")
            with multiprocessing.get_context("fork").Pool(1) as pool:
                assert "4" in pool.apply(lm, ("2 + 2?",))[0]

    def test_forked_process_has_threads_and_a_client_of_its_own(self):
        code = """
import os
from r2p_dspy.engines.served.engine import _threads
from r2p_dspy.engines.served.servers.transport import Transport
transport = Transport("http://localhost:1", "none", 1.0)
client, _ = transport._client, _threads().submit(int).result()
if not (child := os.fork()):
    os._exit(int(transport._client is client or _threads().submit(int).result(timeout=20)))
print(os.waitpid(child, 0)[1], transport._client is client)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.strip() == "0 True"


class TestCancelling:
    def test_cancelled_task_leaves_nothing_running(self):
        async def ask():
            task = asyncio.create_task(R2P("question, profile: r2p_dspy.Profile -> answer").acall(**inputs))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        inputs = {"question": "2 + 2?", "profile": [{"id": "a", "text": "I count."}]}
        with FaultyServer("hang") as server, dspy.context(lm=served(server)):
            asyncio.run(ask())
            assert server.hung_up()


class TestStreams:
    @pytest.mark.parametrize("is_async", [False, True])
    def test_stream_that_hangs_ends_in_time(self, is_async):
        async def listen():
            program = dspy.streamify(
                dspy.Predict("question -> answer"),
                stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
                is_async_program=is_async,
            )
            async for _ in program(question="2 + 2?"):
                pass

        with FaultyServer("headers") as server, dspy.context(lm=served(server, timeout=0.5, num_retries=0)):
            started = time.time()
            with pytest.raises(BaseException) as group:
                asyncio.run(listen())
            assert time.time() - started < 4
            assert "no answer within 0.5 s" in repr(leaf(group.value))
            assert server.hung_up()


def leaf(error):
    return leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
