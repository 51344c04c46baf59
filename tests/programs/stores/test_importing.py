"""`data import`, and `predict --store` with rows that name users."""

import json

import pytest
from click.testing import CliRunner

import cli
from programs.data.personas import MAKERS
from programs.data.personas.world import draw
from programs.tasks.lamp2 import TASK
from r2p_dspy.stores import open_store
from tests import lamp

ITEM = {"id": "m1", "description": "A diver finds love.", "tag": "romance"}
OTHER = {"id": "m2", "description": "A robbery in Paris.", "tag": "action", "date": "2024-05-01"}


def run(*arguments, **options):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments], **options)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def imported(tmp_path, source):
    url = f"sqlite:///{tmp_path / 'histories.sqlite'}"
    result = run("data", "import", source, "--store", url, "--task", "lamp2")
    return result, open_store(url)


def shown(store, user):
    return [(item.id, item.text, item.label, item.date) for item in store.get(user)]


FIRST, SECOND = ("m1", "A diver finds love.", "romance", None), ("m2", "A robbery in Paris.", "action", "2024-05-01")


@pytest.mark.parametrize(
    "rows, histories, said",
    [
        ([{"id": "1", "user": "ada", "profile": [ITEM, OTHER]}], {"ada": [FIRST, SECOND]}, "1 users, 2 new items"),
        ([{"id": "1", "history": [ITEM]}], {"1": [FIRST]}, "1 users, 1 new items"),
        ([{"user": "ada", **ITEM}, {"user": "ada", **OTHER}], {"ada": [FIRST, SECOND]}, "1 users, 2 new items"),
        (
            [{"user": "ada", **ITEM}, {"user": 7, **ITEM}, {"user": "ada", **OTHER}, {"user": "ada", **OTHER}],
            {"ada": [FIRST, SECOND], "7": [FIRST]},
            "2 users, 3 new items",
        ),
        (
            [{"user": "ada", "id": "m1", "description": ITEM["description"], "label": "romance"}],
            {"ada": [FIRST]},
            "1 users, 1 new items",
        ),
    ],
)
def test_rows_are_loaded_once(tmp_path, rows, histories, said):
    source = write(tmp_path / "rows.jsonl", rows)
    result, store = imported(tmp_path, source)
    assert result.exit_code == 0 and said in result.output
    assert {user: shown(store, user) for user in histories} == histories
    assert "0 new items" in imported(tmp_path, source)[0].output


def test_lamps_files_are_loaded(tmp_path):
    questions = [lamp.question(TASK, key, user_id="ada" if key == "3" else None, profile=[ITEM]) for key in "123"]
    for question in questions[:2]:
        del question["user_id"]
    lamp.write(tmp_path, TASK, questions, {"1": "comedy"})
    result, store = imported(tmp_path, tmp_path)
    assert result.exit_code == 0 and "3 users, 3 new items" in result.output
    assert shown(store, "1") == shown(store, "ada") == [FIRST]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([ITEM], "line 1: it names no user"),
        ([{"user": "ada", **ITEM, "tag": "sad"}], "its tag is 'sad', not a label of the task"),
        ([{"user": "ada", "profile": 7}], "its profile is 7, not a list of items"),
        ([{"user": "ada", **ITEM, "date": "5/1/2024"}], "item 'm1': its date '5/1/2024' cannot be read"),
        (
            [{"user": "ada", **ITEM}, {"user": "ada", **ITEM, "tag": "action"}],
            "user 'ada' has another item 'm1' already",
        ),
        ([[]], "it is [], not an object"),
    ],
)
def test_flawed_rows_are_named(tmp_path, rows, message):
    result, _ = imported(tmp_path, write(tmp_path / "rows.jsonl", rows))
    assert result.exit_code == 2 and message in " ".join(result.output.split())


def test_what_holds_no_histories_is_refused(tmp_path):
    result, _ = imported(tmp_path, tmp_path / "missing")
    assert result.exit_code == 2 and "holds no histories" in result.output


def test_predict_reads_the_histories_of_rows_that_name_users(tmp_path):
    (case,) = draw(MAKERS["lamp2"], "test", 1)
    items = [{"user": "ada", **item} for item in case.items]
    _, store = imported(tmp_path, write(tmp_path / "histories.jsonl", [*items, {**items[0], "user": "new"}]))
    rows = [
        {"id": "1", "user": "ada", "description": case.question},
        {"id": "2", "description": case.question, "profile": case.items},
        {"id": "3", "user": "new", "description": case.question},
        {"id": "4", "description": case.question},
    ]
    source, target = write(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    common = ("predict", "--task", "lamp2", "--input", source, "--output", target)
    result = run(*common, env={"R2P_STORE": f"sqlite:///{store.path}"})
    assert result.exit_code == 3 and "4 rows: 3 answered" in result.output
    stored, given, new = [json.loads(line) for line in target.read_text().splitlines()]
    assert (stored["user"], new["user"]) == ("ada", "new")
    assert {**stored, "user": 0, "id": 0} == {**given, "user": 0, "id": 0}, "as if its profile were given"
    assert any("the user has 1 item in the store" in warning for warning in new["warnings"])
    (failed,) = [json.loads(line) for line in (tmp_path / "out.failed.jsonl").read_text().splitlines()]
    assert failed["id"] == "4" and "its profile is None" in failed["error"]
    assert json.loads((tmp_path / "out.run.json").read_text())["store"] == f"SQLite('{store.path}')"


def test_predict_stops_without_failed_rows_where_the_store_cannot_be_used(tmp_path):
    _, store = imported(tmp_path, write(tmp_path / "histories.jsonl", [{"user": "ada", **ITEM}]))
    with store._writing() as db:
        db.execute("DROP TABLE r2p_items")
    store.close()
    source = write(tmp_path / "rows.jsonl", [{"id": "1", "user": "ada", "description": "A diver in Paris."}])
    result = run("predict", "--input", source, "--output", tmp_path / "out.jsonl", "--store", f"sqlite:///{store.path}")
    assert result.exit_code == 2 and "cannot be used (no such table: r2p_items)" in result.output
    assert not (tmp_path / "out.failed.jsonl").exists()
