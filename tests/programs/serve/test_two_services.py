"""Two services on one store: they see each other's writes, lose none, and outlast a database that goes away."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from programs.feedback.answers import Answers
from r2p_dspy.stores import open_store
from tests.programs.serve.running import ITEMS, QUESTION, ask, problem, serving


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/h.sqlite"
    return request.getfixturevalue("postgres").url


@pytest.fixture
def two(store):
    with ExitStack() as stack:
        yield [stack.enter_context(serving(store=store)) for _ in range(2)]


def test_what_one_writes_the_other_reads(two):
    one, other = two
    assert other.post("/v1/users/ada/items", json={"program": "lamp2", "items": ITEMS}).status_code == 201
    answer = ask(one, {**QUESTION, "user": "ada"}).json()
    assert answer["evidence"] == [{"item": "m7", "quote": "a lighthouse"}]
    assert other.post("/v1/feedback", json={"answer": answer["id"], "edited": "comedy"}).status_code == 201
    assert other.delete("/v1/users/ada").json() == {"answers": 1, "items": 1}
    assert problem(ask(one, {**QUESTION, "user": "ada"}))[0] == 404
    assert problem(one.post("/v1/feedback", json={"answer": answer["id"], "rating": 1}))[0] == 404


def test_writers_wait_and_lose_nothing(two, store):
    def write(number):
        client = two[number % 2]
        items = [{"id": f"i{number}", "text": f"It rained {number} times."}]
        added = client.post(f"/v1/users/u{number % 3}/items", json={"items": items})
        answer = ask(client, {**QUESTION, "user": f"u{number % 3}"})
        said = two[(number + 1) % 2].post("/v1/feedback", json={"answer": answer.json()["id"], "verdict": "accepted"})
        return added.status_code, answer.status_code, said.status_code, answer.json()["id"]

    with ThreadPoolExecutor(8) as pool:
        done = [*pool.map(write, range(60))]
    assert {statuses[:3] for statuses in done} == {(201, 200, 201)}
    kept, answers = open_store(store), Answers(store)
    assert {item.id for user in ("u0", "u1", "u2") for item in kept.get(user)} == {f"i{n}" for n in range(60)}
    assert {ids for *_, ids in done} <= {answer.id for answer, _ in answers.judged("lamp2")}
    for user in ("u0", "u1", "u2"):
        answers.delete_user(user)
    kept.delete_user("u0", "u1", "u2")
    kept.close()
    answers.close()


@pytest.mark.postgres
def test_a_database_that_goes_away_and_comes_back(postgres):
    with serving(store=postgres.url) as client:
        client.post("/v1/users/eve/items", json={"program": "lamp2", "items": ITEMS})
        answer = ask(client, {**QUESTION, "user": "eve"}).json()
        postgres.stop()
        for response in (
            ask(client, {**QUESTION, "user": "eve"}),
            ask(client, {**QUESTION, "profile": ITEMS}),
            client.post("/v1/users/eve/items", json={"items": [{"text": "x"}]}),
            client.post("/v1/feedback", json={"answer": answer["id"], "rating": 5}),
            client.get("/readyz"),
        ):
            status, detail = problem(response)
            assert status == 503 and "secret-word" not in detail
        postgres.start()
        assert client.get("/readyz").status_code == 200
        assert ask(client, {**QUESTION, "user": "eve"}).json()["evidence"] == answer["evidence"]
        assert client.post("/v1/feedback", json={"answer": answer["id"], "rating": 5}).status_code == 201
        assert client.delete("/v1/users/eve").json() == {"answers": 2, "items": 1}
