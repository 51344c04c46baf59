"""One model on several servers: calls are spread, an owner's meet one cache, and a dead server costs no answer."""

import asyncio
import math
import time
from collections import Counter
from contextlib import ExitStack

import dspy
import pytest
from dspy.utils.exceptions import LMInvalidRequestError, LMServerError, LMTransportError
from hypothesis import given
from hypothesis import strategies as st

from r2p_dspy import ConfigError, connect
from r2p_dspy.engines.served import spread
from r2p_dspy.engines.served.deadline import CallInFlight
from r2p_dspy.engines.served.pool import Pool
from tests.faulty import FaultyServer
from tests.film import FILM, HISTORY, chat_completion, program
from tests.served import Dies, ScriptedServer

ADDRESSES = ("http://a", "http://b", "http://c")


def pool(*, looks=lambda address: True, addresses=ADDRESSES, **options):
    return Pool(addresses, looks, **options)


def ask(servers, owner=None, tried=()):
    """Make a call, and say where it went."""
    with servers.asking(owner, tried, CallInFlight(None)) as address:
        return address


def fail(servers, address, error=LMTransportError):
    """Let a call to the server at an address fail."""
    with pytest.raises(error), servers.asking(None, {*ADDRESSES} - {address}, CallInFlight(None)):
        raise error("no")


def eventually(condition):
    """Whether a condition holds within three seconds."""
    for _ in range(300):
        if condition():
            return True
        time.sleep(0.01)
    return False


@given(st.integers(1, 40))
def test_calls_without_an_owner_are_spread_evenly(calls):
    servers, counts = pool(), Counter()
    with ExitStack() as open_calls:
        for _ in range(calls):
            counts[open_calls.enter_context(servers.asking(None, (), CallInFlight(None)))] += 1
    assert max(counts.values()) - min(counts[address] for address in ADDRESSES) <= 1


@given(st.lists(st.text(), min_size=1, max_size=20))
def test_an_owner_keeps_the_server_and_one_that_leaves_moves_its_own_owners_alone(owners):
    servers = pool(looks=lambda address: False)
    before = {owner: ask(servers, owner) for owner in owners}
    assert before == {owner: ask(servers, owner) for owner in owners}
    fail(servers, "http://b")
    after = {owner: ask(servers, owner) for owner in owners}
    assert "http://b" not in after.values()
    assert all(after[owner] == address for owner, address in before.items() if address != "http://b")


@given(st.integers(1, 40))
def test_an_owner_of_many_calls_leaves_room_for_others(calls):
    servers, counts = pool(), Counter()
    with ExitStack() as open_calls:
        for _ in range(calls):
            counts[open_calls.enter_context(servers.asking("ada", (), CallInFlight(None)))] += 1
    assert max(counts.values()) <= math.ceil(1.25 * calls / len(ADDRESSES))


@pytest.mark.parametrize(
    "error, away",
    [(LMTransportError, True), (LMServerError, True), (LMInvalidRequestError, False)],
    ids=["unreachable", "failing", "refusing a request"],
)
def test_what_takes_a_server_out(error, away):
    servers = pool(looks=lambda address: False)
    fail(servers, "http://a", error)
    assert servers.away() == ["http://a"] * away
    assert ("http://a" in {ask(servers) for _ in range(9)}) is not away


def test_a_server_comes_back_when_it_answers_a_look():
    answering = set()
    servers = pool(looks=lambda address: address in answering)
    fail(servers, "http://a")
    time.sleep(0.6)
    ask(servers)  # which makes the pool look, in vain
    assert servers.away() == ["http://a"]
    answering.add("http://a")
    assert eventually(lambda: (ask(servers), servers.away())[1] == [])
    assert "http://a" in {ask(servers) for _ in range(9)}


def test_when_all_are_away_one_is_asked_all_the_same_and_is_back_if_it_answers():
    servers = pool(looks=lambda address: False)
    for address in ADDRESSES:
        fail(servers, address)
    assert servers.away() == [*ADDRESSES]
    answered = ask(servers)
    assert servers.away() == [address for address in ADDRESSES if address != answered]


def test_calls_to_a_server_that_fell_silent_are_given_up():
    servers = pool(looks=lambda address: address != "http://a", silent=0.05)
    call = CallInFlight(None)
    with servers.asking(None, {"http://b", "http://c"}, call):
        time.sleep(0.1)
        ask(servers, tried={"http://a"})
        assert eventually(lambda: servers.away() == ["http://a"])
        with pytest.raises(LMTransportError, match="http://a has fallen silent"):
            call.wait(asyncio.sleep(60))


def both(lm, prompt="hi"):
    """An answer of a sync call and of an async one."""
    return lm(prompt), asyncio.run(lm.acall(prompt))


def test_a_model_on_two_servers_answers_while_one_is_out_and_uses_it_again():
    state = {"fault": ""}
    with FaultyServer(lambda number: state["fault"], text="one") as one, FaultyServer(text="two") as two:
        lm = connect("openai/m", api_base=f"{one.api_base},{two.api_base}", cache=False, num_retries=0)
        assert {answer for _ in range(3) for (answer,) in both(lm)} == {"one", "two"}
        state["fault"] = "reset"
        assert {answer for _ in range(3) for (answer,) in both(lm)} == {"two"}
        assert lm.pool.away() == [one.api_base]
        state["fault"] = ""
        assert eventually(lambda: "one" in {answer for (answer,) in both(lm)})
        # A copy, such as that of a run which records its calls, knows what the first one knows.
        assert lm.copy(temperature=1).pool is lm.pool


@pytest.mark.parametrize("fault", ["reset", "500", "502", "429", "dies", "html"])
def test_faults_of_one_server_cost_no_answer(fault):
    with FaultyServer(fault) as one, FaultyServer(text="two") as two:
        lm = connect("openai/m", api_base=f"{one.api_base},{two.api_base}", cache=False, num_retries=0)
        assert {answer for _ in range(3) for (answer,) in both(lm)} == {"two"}


def test_a_refused_request_is_not_asked_elsewhere():
    with FaultyServer("400") as one, FaultyServer("400") as two:
        lm = connect("openai/m", api_base=f"{one.api_base},{two.api_base}", cache=False)
        with pytest.raises(LMInvalidRequestError):
            lm("hi")
        assert len(one.requests) + len(two.requests) == 1


def test_when_no_server_answers_the_call_fails_as_with_one_after_its_retries():
    with FaultyServer("500") as one, FaultyServer("reset") as two:
        lm = connect("openai/m", api_base=f"{one.api_base},{two.api_base}", cache=False, num_retries=1)
        with pytest.raises((LMServerError, LMTransportError)):
            lm("hi")
        assert (len(one.requests), len(two.requests)) == (2, 2)


def test_a_silent_server_costs_no_answer(monkeypatch):
    monkeypatch.setattr(spread, "pool_of", lambda addresses, key: servers)
    with FaultyServer("hang", text="one") as one, FaultyServer(text="two") as two:
        servers = pool(addresses=(one.api_base, two.api_base), looks=lambda at: at == two.api_base, silent=0.1)
        lm = connect("openai/m", api_base=f"{one.api_base},{two.api_base}", cache=False)
        started = time.monotonic()
        with dspy.context(lm=lm):
            answers = dspy.Parallel(num_threads=4, disable_progress_bar=True)([(slowly, {"n": n}) for n in range(12)])
        assert answers == [["two"]] * 12 and time.monotonic() - started < 20


def slowly(n):
    time.sleep(0.1)
    return dspy.settings.lm(f"question {n}")


@pytest.fixture
def serve():
    """serve(*texts) starts a vLLM server that writes them."""
    servers = []
    yield lambda *texts: servers.append(ScriptedServer(*texts)) or servers[-1]
    for server in servers:
        server.stop()


def test_a_users_steered_calls_meet_one_server(serve):
    servers = [serve(chat_completion()) for _ in range(3)]
    lm = connect("hosted_vllm/m", api_base=",".join(server.api_base for server in servers), cache=False)
    for user in range(4):
        before = [len(server.completions()) for server in servers]
        history = [{**item, "id": f"{item['id']} of {user}"} for item in HISTORY]
        with dspy.context(lm=lm):
            answers = [program()(film=f"{FILM} {n}", profile=history) for n in range(3)]
        assert {answer.correction_mode for answer in answers} == {"stream"}
        assert sorted(len(server.completions()) - then for server, then in zip(servers, before)) == [0, 0, 3]


def test_a_steered_call_that_breaks_off_is_made_again_elsewhere(serve):
    invented = chat_completion(evidence='[{"item": "9", "quote": "a castle"}]')
    servers = serve(invented, Dies("a castle")), serve(chat_completion())
    lm = connect("hosted_vllm/m", api_base=",".join(server.api_base for server in servers), cache=False)
    with dspy.context(lm=lm):
        answers = [program()(film=FILM, profile=[{**HISTORY[0], "id": f"of {user}"}, HISTORY[1]]) for user in range(16)]
    assert {answer.tag for answer in answers} == {"romance"} and not any(answer.violations for answer in answers)
    assert len(servers[0].completions()) >= 2 and len(servers[1].completions()) == 16
    assert not any(answer.interventions for answer in answers), "that of the answer which broke off is no longer told"


@pytest.mark.parametrize(
    "api_base, says",
    [
        ("http://a,,http://b", "an empty address; write URL,URL"),
        ("http://a,", "an empty address"),
        ("http://a,http://ada:secret@b", "holds a user's name or a password"),
    ],
)
def test_bad_addresses_are_one_line(api_base, says):
    with pytest.raises(ConfigError, match=says) as refusal:
        connect("openai/m", api_base=api_base)
    assert "\n" not in str(refusal.value) and "secret" not in str(refusal.value)
