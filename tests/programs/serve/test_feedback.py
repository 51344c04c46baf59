"""Feedback: kept with its answer, turned into rows that `compile` takes, and forgotten with its user."""

import json

import pytest
from click.testing import CliRunner

import cli
from programs.data.dataset import DataConfig
from programs.data.jsonl import jsonl
from programs.feedback.answers import Answer, Answers, Feedback
from programs.feedback.rows import rows_of
from programs.tasks.lamp2 import TASK
from r2p_dspy.errors import DataError
from r2p_dspy.stores import open_store
from tests.programs.serve.running import ASKED, ITEMS, QUESTION, ask, problem, serving


def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"verdict": "accepted"}, 201),
        ({"edited": "comedy"}, 201),
        ({"rating": 5, "verdict": "rejected"}, 201),
        ({}, 422),
        ({"edited": "a tag of my own"}, 422),
        ({"rating": 2.5}, 422),
        ({"rating": True}, 422),
        ({"verdict": "accepted", "by": "me"}, 422),
    ],
)
def test_what_feedback_may_say(said, status, tmp_path):
    with serving(store=f"sqlite:///{tmp_path}/h.sqlite") as client:
        answer = ask(client).json()["id"]
        response = client.post("/v1/feedback", json={"answer": answer, **said})
        assert response.status_code == status
        if status == 422:
            assert problem(response)
        assert ('r2p_feedback_total{kind="' in client.get("/metrics").text) == (status == 201)


@pytest.fixture
def kept(tmp_path):
    """Answers beside a store in which each of four users has two items, the second written after the answer."""
    url = f"sqlite:///{tmp_path}/h.sqlite"
    store, answers = open_store(url), Answers(url)
    for user in ("ada", "bob", "cyd", "dan"):
        store.append(user, [{"id": "m1", "description": f"a lighthouse of {user}", "label": "romance"}])
        store.append(user, [{"id": "m2", "description": "written later", "label": "action", "date": "2001-01-01"}])
    yield url, store, answers
    store.close()
    answers.close()


def answer(user, text, tag, at, **more):
    return Answer("", "lamp2", "lamp2", user, {"description": text}, {"tag": tag}, newest="m1", at=at, **more)


def test_rows_of_feedback(kept):
    _, store, answers = kept
    given = [
        (answer("ada", "one", "comedy", 1), [Feedback("", edited="romance")]),
        (answer("ada", "two", "comedy", 2), [Feedback("", "accepted")]),
        (answer("bob", "one", "action", 3), [Feedback("", rating=1)]),
        (answer("bob", "one", "fantasy", 4), [Feedback("", rating=2), Feedback("", rating=4)]),  # the later one counts
        (answer("cyd", "one", "action", 5), [Feedback("", rating=3)]),
        (answer("cyd", "two", "action", 6), []),
        (answer("dan", "one", "classic", 7), [Feedback("", "accepted")]),
        (answer(None, "three", "classic", 8, profile=ITEMS), [Feedback("", "accepted")]),
    ]
    for one, said in given:
        answers.write([one, *(Feedback(one.id, f.verdict, f.edited, f.rating) for f in said)], synced=True)
    made = rows_of(TASK, answers, store, "time")
    rows = {(row["user"], row["description"]): row for row in made.train + made.dev}
    assert {key: row["tag"] for key, row in rows.items() if len(key[0]) == 3} == {
        ("ada", "one"): "romance",
        ("ada", "two"): "comedy",
        ("bob", "one"): "fantasy",
        ("dan", "one"): "classic",
    }
    assert rows["ada", "one"]["profile"] == [{"id": "m1", "description": "a lighthouse of ada", "tag": "romance"}]
    assert [row["profile"] for key, row in rows.items() if key[1] == "three"] == [ITEMS]
    assert [(pair["user"], pair["chosen"], pair["rejected"]) for pair in made.pairs] == [
        ("ada", "romance", "comedy"),
        ("bob", "fantasy", "action"),
    ]
    assert made.left_out == {"feedback that neither accepts nor rejects": 1}
    by_user = rows_of(TASK, answers, store, "user")
    users = [{row["user"] for row in part} for part in (by_user.train, by_user.dev)]
    assert users[0] and users[1] and not users[0] & users[1]


def test_the_split_by_time_reports_the_last_answer_of_each_user(kept):
    _, store, answers = kept
    for at, text in enumerate(("one", "two", "three")):
        for user in ("ada", "bob"):
            one = answer(user, f"{text} of {user}", "comedy", at)
            answers.write([one, Feedback(one.id, "accepted")], synced=False)
    made = rows_of(TASK, answers, store, "time")
    assert [row["description"][:5] for row in made.dev] == ["three", "three"]
    assert len(made.train) == 4


def test_histories_are_of_the_time_of_the_answer_or_the_row_is_left_out(kept):
    _, store, answers = kept
    one = answer("ada", "one", "comedy", 1)
    answers.write([one, Feedback(one.id, "accepted")], synced=True)
    store.delete_user("ada")
    with pytest.raises(DataError, match="no feedback says what the right answer of lamp2 is"):
        rows_of(TASK, answers, store)


def test_the_command_writes_what_compile_reads(kept, tmp_path):
    url, _, answers = kept
    for user in ("ada", "bob", "cyd", "dan"):
        one = answer(user, f"one of {user}", "comedy", 1)
        answers.write([one, Feedback(one.id, edited="romance")], synced=True)
    result = run("data", "from-feedback", "--store", url, "--task", "lamp2", "--output", tmp_path / "rows")
    assert result.exit_code == 0, result.output
    assert "3 rows to train on, 1 to report, 3 preference pairs" in result.output
    data = jsonl(TASK, tmp_path / "rows", DataConfig(str(tmp_path / "rows"), None, 0, (), False, True))
    assert {example.tag for example in [*data.train, *data.dev, *data.test]} == {"romance"}
    again = run("data", "from-feedback", "--store", url, "--task", "lamp2", "--output", tmp_path / "rows")
    assert again.exit_code == 2 and "holds files already" in again.output


def test_no_service_kept_answers(tmp_path):
    url = f"sqlite:///{tmp_path}/h.sqlite"
    result = run("data", "from-feedback", "--store", url, "--task", "lamp2", "--output", tmp_path / "rows")
    assert result.exit_code == 2 and "no service has kept answers beside" in result.output


def test_forgetting_a_user_reaches_answers_and_feedback(tmp_path):
    url, secret = f"sqlite:///{tmp_path}/h.sqlite", "a lighthouse keeper who counts every ship"
    with serving(store=url) as client:
        items = [{"id": "m1", "description": secret, "tag": "romance"}]
        client.post("/v1/users/ada/items", json={"program": "lamp2", "items": items})
        named = ask(client, {"inputs": {"description": f"Like {secret}."}, "user": "ada"}).json()["id"]
        client.post("/v1/feedback", json={"answer": named, "edited": "romance"})
        anonymous = ask(client, {**QUESTION, "profile": items}).json()["id"]
        kept = ask(client, ASKED).json()["id"]
    result = run("data", "forget", "ada", "--store", url, "--in", tmp_path)
    assert result.exit_code == 0 and "2 answers, and their feedback" in result.output, result.output
    answers = Answers(url)
    assert [answers.get(id_) is None for id_ in (named, anonymous, kept)] == [True, True, False]
    answers.close()
    holders = [path.name for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert holders == []
