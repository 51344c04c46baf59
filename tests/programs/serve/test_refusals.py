"""What bad requests get: the right status, and one clear sentence in RFC 9457 form."""

import hashlib
import json
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import dspy
import httpx
import pytest

from programs.serve.config import ServeConfig
from programs.serve.tokens import read_tokens
from r2p_dspy.errors import ConfigError, StoreError
from tests.programs.serve.running import (
    ASKED,
    ITEMS,
    QUESTION,
    SlowEngine,
    ask,
    problem,
    serving,
    wait_until,
)

BIG = [{"description": "x" * 1000} for _ in range(50_000)]  # 50 MB


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with serving(store=f"sqlite:///{tmp_path_factory.mktemp('store')}/h.sqlite") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/programs/lamp9", ASKED, 404, "unknown program 'lamp9'; did you mean 'lamp2'?"),
        ("/v1/programs/" + "x" * 5000, ASKED, 404, "unknown program"),
        ("/v2/programs/lamp2", ASKED, 404, "there is nothing at this address"),
        ("/v1/programs/lamp2", {"inputs": {}, "user": "ada"}, 422, "inputs.description: Field required"),
        ("/v1/programs/lamp2", {"inputs": {"description": 7}, "user": "a"}, 422, "should be a valid string"),
        ("/v1/programs/lamp2", {"inputs": {"description": " "}, "user": "a"}, 422, "it is blank"),
        ("/v1/programs/lamp2", {**ASKED, "inputs": {"description": "a", "film": "b"}}, 422, "inputs.film"),
        ("/v1/programs/lamp2", QUESTION, 422, 'name a "user" of the store, or send a "profile"'),
        ("/v1/programs/lamp2", {**QUESTION, "profile": "rain"}, 422, "profile: Input should be a valid list"),
        ("/v1/programs/lamp2", {**QUESTION, "profile": [{"description": "a", "tag": "x"}]}, 422, "profile.0.tag"),
        ("/v1/programs/lamp2", {**QUESTION, "profile": ITEMS * 2}, 422, "have the same id 'm7'"),
        ("/v1/programs/lamp2", {**QUESTION, "user": "a" * 1000}, 422, "user: String should have at most 400"),
        ("/v1/programs/lamp2", {**QUESTION, "user": "nobody"}, 404, "the store has nothing of the user 'nobody'"),
        ("/v1/programs/lamp2", {**QUESTION, "user": "a\x00b"}, 422, "a user's name is a text"),
        ("/v1/programs/lamp2", {**ASKED, "stream": "maybe"}, 422, "stream: Input should be a valid boolean"),
        ("/v1/programs/lamp2", [], 422, "the body: Input should be a valid dictionary"),
        ("/v1/programs/lamp2", b"{not json", 400, "the body is not valid JSON"),
        ("/v1/programs/lamp2", b"[" * 100_000, 400, "error parsing the body"),
        ("/v1/programs/lamp2", {**ASKED, "user": "a\x00b"}, 422, "a user's name is a text"),
        ("/v1/programs/lamp2", {**QUESTION, "profile": BIG}, 413, "the body is larger than 4,000,000 bytes"),
        ("/v1/feedback", {"answer": "0" * 32, "verdict": "accepted"}, 404, "there is no answer '0000"),
        ("/v1/feedback", {"answer": "0" * 32, "verdict": "fine"}, 422, "verdict: Input should be 'accepted'"),
        ("/v1/feedback", {"answer": "0" * 32, "rating": 6}, 422, "rating: Input should be less than or equal to 5"),
        ("/v1/users/ada/items", {"items": []}, 422, "items: List should have at least 1 item"),
        ("/v1/users/ada/items", {"items": [{"description": ""}]}, 422, "items: none of them has a text"),
        ("/v1/users/ada/items", {"items": ITEMS, "program": "lamp9"}, 422, "unknown program 'lamp9'"),
        ("/v1/users/ada/items", {"items": [{"tag": "x"}], "program": "lamp2"}, 422, "items.tag"),
        ("/v1/users/ada/items", {"items": [{"id": "a", "text": "x", "date": "2024-02-31"}]}, 422, "its date"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else "",
)
def test_flawed_requests(client, path, body, status, words):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = problem(client.post(path, content=content, headers={"Content-Type": "application/json"}))
    assert told[0] == status and words in told[1]


def test_another_item_under_an_id_that_is_taken(client):
    assert client.post("/v1/users/bo/items", json={"items": [{"id": "m1", "text": "rain"}]}).status_code == 201
    status, detail = problem(client.post("/v1/users/bo/items", json={"items": [{"id": "m1", "text": "sun"}]}))
    assert status == 422 and "has another item 'm1' already" in detail


def test_half_of_a_character_is_replaced(client):
    content = b'{"inputs": {"description": "a \\ud800"}, "profile": [{"description": "b \\udc00"}]}'
    headers = {"Content-Type": "application/json"}
    assert client.post("/v1/programs/lamp2", content=content, headers=headers).status_code == 200
    assert "\ufffd" in client.scripted.prompts()[-1]


def test_a_body_of_unknown_length_is_bounded_too(client):
    def chunks():
        yield from (b" " * 1_000_000 for _ in range(6))

    assert problem(client.post("/v1/programs/lamp2", content=chunks()))[0] == 413


def test_the_wrong_method(client):
    assert problem(client.get("/v1/programs/lamp2"))[0] == 405


def test_without_a_store_users_are_refused():
    with serving() as client:
        assert problem(ask(client, {**QUESTION, "user": "ada"}))[0] == 422
        answer = ask(client).json()
        assert problem(client.post("/v1/feedback", json={"answer": answer["id"], "rating": 3}))[0] == 501
        assert problem(client.delete("/v1/users/ada"))[0] == 501


class TestTokens:
    LINES = (
        f"acme:{hashlib.sha256(b'one').hexdigest()}  # of their web shop\n"
        f"other:{hashlib.sha256(b'two').hexdigest()}:2999-01-31\n\n"
        f"acme:{hashlib.sha256(b'old').hexdigest()}:2020-01-31\n"
    )

    @pytest.fixture(scope="class")
    def client(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("tokens")
        (folder / "tokens").write_text(self.LINES)
        with serving(store=f"sqlite:///{folder}/h.sqlite", tokens=str(folder / "tokens")) as client:
            yield client

    @pytest.mark.parametrize(
        ("header", "words"),
        [
            (None, "a token is missing"),
            ("Basic b25l", "a token is missing"),
            ("Bearer", "a token is missing"),
            ("Bearer three", "the token is unknown"),
            ("Bearer \u00e9", "the token is unknown"),
            ("Bearer old", "the token expired on 2020-01-31"),
        ],
    )
    def test_who_is_refused(self, client, header, words):
        headers = {} if header is None else {"Authorization": header.encode()}
        response = ask(client, headers=headers)
        status, detail = problem(response)
        assert status == 401 and words in detail and response.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
    def test_what_is_open(self, client, path):
        assert client.get(path).status_code == 200

    def test_openapi_says_where_a_token_is_needed(self, client):
        paths = client.get("/openapi.json").json()["paths"]
        assert paths["/v1/programs/lamp2"]["post"]["security"] and "security" not in paths["/healthz"]["get"]

    def test_tenants_are_kept_apart(self, client):
        one, two = ({"Authorization": f"Bearer {token}"} for token in ("one", "two"))
        client.post("/v1/users/ada/items", json={"program": "lamp2", "items": ITEMS}, headers=one)
        mine = ask(client, {**QUESTION, "user": "ada"}, headers=one).json()
        assert mine["evidence"] and problem(ask(client, {**QUESTION, "user": "ada"}, headers=two))[0] == 404
        said = {"answer": mine["id"], "verdict": "accepted"}
        assert problem(client.post("/v1/feedback", json=said, headers=two))[0] == 404
        assert client.post("/v1/feedback", json=said, headers=one).status_code == 201
        assert client.delete("/v1/users/ada", headers=two).json() == {"answers": 0, "items": 0}
        assert ask(client, {**QUESTION, "user": "ada"}, headers=one).json()["evidence"]

    @pytest.mark.parametrize("line", ["acme", "acme:secret", f"a b:{'0' * 64}", f"acme:{'0' * 64}:2026-13-01", ""])
    def test_a_file_that_holds_none(self, tmp_path, line):
        (tmp_path / "tokens").write_text(line)
        with pytest.raises(ConfigError, match="TENANT:SHA256"):
            read_tokens(str(tmp_path / "tokens"))

    def test_without_tokens_only_this_machine_may_ask(self):
        with pytest.raises(ConfigError, match=r"without tokens, anybody who can reach 0\.0\.0\.0 may ask"):
            ServeConfig.of(host="0.0.0.0")


class TestLimits:
    def test_too_many_calls(self):
        engine = SlowEngine(1.0)
        with serving(engine=engine, max_in_flight=2) as client, ThreadPoolExecutor(2) as pool:
            two = [pool.submit(ask, client) for _ in range(2)]
            wait_until(lambda: engine.begun == 2)
            refused = ask(client)
            assert problem(refused)[0] == 429 and refused.headers["retry-after"] == "1"
            assert client.get("/healthz").status_code == 200
            assert [call.result().status_code for call in two] == [200, 200]
            assert ask(client).status_code == 200

    def test_a_call_that_takes_too_long(self):
        engine = SlowEngine(30)
        with serving(engine=engine, timeout=0.2) as client:
            status, detail = problem(ask(client))
            assert (status, detail) == (504, "no answer within 0.2 seconds; try again later")
            wait_until(lambda: engine.given_up == 1)

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_client_that_goes_away_stops_the_model(self, stream):
        engine = SlowEngine(30)
        with serving(engine=engine) as client:
            content = json.dumps({**ASKED, "stream": stream}).encode()
            head = f"POST /v1/programs/lamp2 HTTP/1.1\r\nHost: h\r\nContent-Length: {len(content)}\r\n"
            with socket.create_connection(("127.0.0.1", client.base_url.port)) as connection:
                connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + content)
                wait_until(lambda: engine.begun == 1)
            wait_until(lambda: engine.given_up == 1)
            wait_until(lambda: client.service.in_flight.calls == 0)
            assert engine.finished == 0

    def test_a_body_that_stops_coming(self, monkeypatch):
        monkeypatch.setattr("programs.serve.limits._BODY_SECONDS", 0.2)
        with serving() as client:
            with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=10) as connection:
                connection.sendall(b"POST /v1/programs/lamp2 HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{")
                assert b" 408 " in connection.recv(1000)


class TestTheEnd:
    def test_requests_in_flight_end_and_new_ones_are_refused(self):
        engine = SlowEngine(1.0)
        with serving(engine=engine) as client, ThreadPoolExecutor(1) as pool:
            call = pool.submit(ask, client)
            wait_until(lambda: engine.begun == 1)
            client.server._loop.call_soon_threadsafe(client.server.drain)
            wait_until(lambda: client.service.in_flight.draining)
            refused = ask(client)
            assert problem(refused)[0] == 503 and refused.headers["retry-after"] == "1"
            assert problem(client.get("/readyz"))[0] == 503 and client.get("/healthz").status_code == 200
            assert call.result().status_code == 200
            wait_until(lambda: not client.server.started or client.server.should_exit)


class TestModels:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (dspy.LMTimeoutError("secret words"), 504),
            (dspy.LMServerError("secret words"), 502),
            (dspy.LMRateLimitError("secret words"), 503),
            (dspy.ContextWindowExceededError(message="secret words"), 422),
            (dspy.LMAuthError("secret words"), 500),
            (KeyError("secret words of a user"), 500),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_a_model_that_fails(self, error, status):
        with serving(error) as client:
            told = problem(ask(client))
        assert told[0] == status and "secret" not in told[1]


class TestStores:
    def test_a_store_of_a_newer_version(self, tmp_path):
        with serving(store=f"sqlite:///{tmp_path}/h.sqlite") as client:
            ask(client)
        with closing(sqlite3.connect(tmp_path / "h.answers.sqlite")) as file, file:
            file.execute("UPDATE r2p_answers_version SET version = 99")
        with pytest.raises(StoreError, match="is a store of version 99, and this r2p-dspy reads up to 1"):
            with serving(store=f"sqlite:///{tmp_path}/h.sqlite"):
                pass

    def test_a_store_that_goes_away_and_comes_back(self, tmp_path):
        """PostgreSQL's is stopped in `test_two_services`; here the tables are away."""
        path = tmp_path / "h.sqlite"
        with serving(store=f"sqlite:///{path}") as client, closing(sqlite3.connect(path)) as file:
            client.post("/v1/users/ada/items", json={"program": "lamp2", "items": ITEMS})
            file.execute("ALTER TABLE r2p_owners RENAME TO away")
            assert problem(ask(client, {**QUESTION, "user": "ada"}))[0] == 503
            refused = client.post("/v1/users/ada/items", json={"items": [{"text": "x"}]})
            assert problem(refused)[0] == 503 and refused.headers["retry-after"] == "1"
            assert problem(client.delete("/v1/users/ada"))[0] == 503
            assert problem(client.get("/readyz"))[0] == 503
            file.execute("ALTER TABLE away RENAME TO r2p_owners")
            assert client.get("/readyz").status_code == 200
            answer = ask(client, {**QUESTION, "user": "ada"}).json()
            assert answer["evidence"] == [{"item": "m7", "quote": "a lighthouse"}]
        with (
            closing(sqlite3.connect(tmp_path / "h.answers.sqlite")) as file,
            serving(store=f"sqlite:///{path}") as client,
        ):
            file.execute("ALTER TABLE r2p_feedback RENAME TO away")
            said = {"answer": answer["id"], "rating": 5}
            assert problem(client.post("/v1/feedback", json=said))[0] == 503
            file.execute("ALTER TABLE away RENAME TO r2p_feedback")
            assert client.post("/v1/feedback", json=said).status_code == 201


def test_a_fault_of_the_service_is_told_without_a_trace(client, monkeypatch):
    monkeypatch.setattr(client.service.answers, "get", lambda _: {}["secret words"])
    with httpx.Client(base_url=client.base_url) as other:
        status, detail = problem(other.post("/v1/feedback", json={"answer": "0" * 32, "rating": 3}))
    assert status == 500 and detail.startswith("the service has a fault, which its log has under")


def test_tokens_of_the_environment(monkeypatch):
    monkeypatch.setenv("R2P_TOKENS", f"acme:{'0' * 64}, other:{'1' * 64}")
    tokens = read_tokens(None)
    assert tokens and tokens.tenant("Bearer x").reason.startswith("the token is unknown")
