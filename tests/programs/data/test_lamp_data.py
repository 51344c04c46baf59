"""Loading LaMP's files: what comes out of good ones, and the one line that comes out of bad ones."""

import json
import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from programs.tasks import lamp2, lamp3, lamp4
from r2p_dspy.errors import DataError
from tests.lamp import GOLDS, SAMPLES, item, load, question, write

REUSED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


def test_row_becomes_example(tmp_path):
    row = question(
        lamp2.TASK, profile=[item(lamp2.TASK, 7, date="2020-01-02", odd=1), item(lamp2.TASK, "b")], user_id=5
    )
    write(tmp_path, lamp2.TASK, [row], {"1": " comedy "})
    (example,) = load(lamp2.TASK, tmp_path, "dev")
    assert example.toDict().keys() == {"id", "user", "description", "tag", "profile"}
    assert (example.id, example.user, example.description, example.tag) == ("1", "5", "It rained.", "comedy")
    assert set(example.inputs().keys()) == {"description", "profile"}
    first, second = example.profile
    assert first.model_dump(exclude={"ref"}) == {
        "id": "7",
        "fields": {"description": "description of 7"},
        "label": "comedy",
        "date": "2020-01-02",
    }
    assert second.date is None


@REUSED
@given(
    texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5),
    titles=st.lists(st.text(min_size=1).filter(str.strip), min_size=5, max_size=5),
    limit=st.integers(1, 6),
)
def test_texts_are_unchanged(tmp_path, texts, titles, limit):
    rows = [
        question(
            lamp4.TASK, str(n), text, profile=[item(lamp4.TASK, str(m), text=title) for m, title in enumerate(titles)]
        )
        for n, text in enumerate(texts)
    ]
    write(tmp_path, lamp4.TASK, rows, {str(n): titles[n] for n in range(len(texts))})
    examples = load(lamp4.TASK, tmp_path, "dev", limit=limit)
    assert [example.article for example in examples] == [text.strip() for text in texts][:limit]
    assert [example.headline for example in examples] == titles[: len(texts)][:limit]
    assert [item.fields["text"] for item in examples[0].profile] == titles


@pytest.mark.parametrize("written", [4, 4.0, "4", "4.0", " 4 "])
def test_ratings_are_whole_numbers(tmp_path, written):
    write(tmp_path, lamp3.TASK, [question(lamp3.TASK, profile=[item(lamp3.TASK, score=written)])], {"1": written})
    (example,) = load(lamp3.TASK, tmp_path, "dev")
    assert (example.score, example.profile[0].label) == ("4", "4")


@pytest.mark.parametrize("written", [None, "None", "", "unknown", True, ["2020-01-02"], {"year": 2020}])
def test_invalid_dates(tmp_path, written):
    write(tmp_path, lamp3.TASK, [question(lamp3.TASK, profile=[item(lamp3.TASK, date=written)])], {"1": "4"})
    assert load(lamp3.TASK, tmp_path, "dev")[0].profile[0].date is None


def test_lone_surrogates_are_replaced(tmp_path):
    items = [item(lamp4.TASK, text="by the \ud83d sea", title="so\ud83d")]
    write(tmp_path, lamp4.TASK, [question(lamp4.TASK, text="it \ud83d rained", profile=items)], {"1": "a"})
    (example,) = load(lamp4.TASK, tmp_path, "dev")
    for text, rest in ((example.article, "it _ rained"), (example.profile[0].text, "so_ by the _ sea")):
        assert re.sub("[?\ufffd]", "_", text) == rest, "by whichever of them, as ijson's parsers differ"


def test_empty_history_is_allowed(tmp_path):
    write(tmp_path, lamp3.TASK, [question(lamp3.TASK, profile=[])], {"1": "4"})
    assert not load(lamp3.TASK, tmp_path, "dev")[0].profile


NESTED = ("[" + " " * 99) * 2000 + "]" * 2000
BAD = [
    # why, task, what to change in a good row, or the questions, the golds; what the message must name
    ("a question without gold", lamp4, {"id": "2"}, {"1": "a"}, ["question 2", "no gold in dev_outputs.json"]),
    (
        "a gold without question",
        lamp4,
        {},
        {"1": "a", "9": "b", "8": "c"},
        ["2 flawed rows", "gold 9", "gold 8", "dev_questions.json"],
    ),
    ("a duplicate question", lamp4, [question(lamp4.TASK)] * 2, None, ["question 1", "twice"]),
    ("a duplicate gold", lamp4, {}, [{"id": "1", "output": "a"}] * 2, ["gold 1", "twice"]),
    ("a duplicate item", lamp4, {"profile": [item(lamp4.TASK)] * 2}, None, ["question 1, item a", "twice"]),
    ("an item without text", lamp4, {"profile": [item(lamp4.TASK, text=" ", title="")]}, None, ["item a", "no text"]),
    ("an item's text is null", lamp4, {"profile": [item(lamp4.TASK, text=None)]}, None, ["text is None"]),
    ("another task's items", lamp4, {"profile": [item(lamp3.TASK)]}, None, ["title is None", "id, text, score"]),
    ("an item that is none", lamp4, {"profile": ["rain"]}, None, ["question 1, item 1", "no id", "'rain'"]),
    ("no profile", lamp4, {"profile": None}, None, ["question 1", "profile is None"]),
    (
        "an item's label",
        lamp2,
        {"profile": [item(lamp2.TASK, tag="drama")]},
        None,
        ["item a", "tag is 'drama'", "sci-fi"],
    ),
    ("an item without label", lamp3, {"profile": [{"id": "a", "text": "x"}]}, None, ["item a", "score is None"]),
    ("a half star", lamp3, {"profile": [item(lamp3.TASK, score="4.5")]}, None, ["score is '4.5'"]),
    ("true is no rating", lamp3, {"profile": [item(lamp3.TASK, score=True)]}, None, ["score is True"]),
    ("a gold label", lamp2, {}, {"1": "drama"}, ["gold 1", "output is 'drama'", "has only sci-fi"]),
    ("a gold that is none", lamp4, {}, {"1": None}, ["gold 1", "output is None"]),
    ("old golds of LaMP_2", lamp2, {}, {"1": "politics"}, ["'politics'", "LaMP_2/new"]),
    ("old items of LaMP_2", lamp2, {"profile": [{"id": "a", "text": "", "category": ""}]}, None, ["LaMP_2/new"]),
    ("old inputs of LaMP_2", lamp2, {"input": "Which category … article: Rain"}, None, ["wording", "LaMP_2/new"]),
    ("another wording", lamp3, {"input": "Rate this: good"}, None, ["question 1", "'Rate this: good'", "review: …"]),
    ("nothing after the wording", lamp3, {"input": lamp3.TASK.wording(" ")}, None, ["question 1", "nothing after it"]),
    ("no input", lamp3, {"input": None}, None, ["question 1", "input is None"]),
    ("no id", lamp3, {"id": None}, None, ["row 1", "no id"]),
    ("a row that is none", lamp3, ["x"], None, ["row 1", "no id: 'x'"]),
    ("truncated questions", lamp4, '[{"id": "1", "inp', None, ["dev_questions.json", "not valid JSON"]),
    ("truncated after a whole row", lamp4, json.dumps([question(lamp4.TASK)])[:-1], None, ["not valid JSON"]),
    ("truncated outputs", lamp4, {}, '{"task": "LaMP_4", "gol', ["dev_outputs.json", "not valid JSON"]),
    ("nothing but brackets", lamp4, "[" * 200_000, None, ["dev_questions.json", "not valid JSON", "brackets"]),
    (
        "objects in objects",
        lamp4,
        '[{"a":' + '{"a":' * 9_000,
        None,
        ["dev_questions.json", "not valid JSON", "brackets"],
    ),
    ("empty questions", lamp4, "", None, ["dev_questions.json", "not valid JSON"]),
    ("no question", lamp4, [], None, ["dev_questions.json", "no questions"]),
    ("questions that are no list", lamp4, "{}", None, ["dev_questions.json", "no questions"]),
    ("no gold", lamp4, {}, {}, ["dev_outputs.json", "empty"]),
    ("golds alone", lamp4, {}, "[]", ["dev_outputs.json", "no golds"]),
    ("another task's outputs", lamp4, {}, '{"task": "LaMP_5", "golds": []}', ["'LaMP_5'", "not of LaMP_4"]),
    (
        "an input of many levels",
        lamp4,
        f'[{{"id": "1", "input": {NESTED}}}]',
        None,
        ["many levels, not a text"],
    ),
    (
        "a rating of many levels",
        lamp3,
        json.dumps([question(lamp3.TASK)]).replace('"4"', NESTED),
        None,
        ["score is a list of many levels"],
    ),
    ("an endless number", lamp3, {"profile": [item(lamp3.TASK, score=10**4000)]}, None, ["not valid JSON"]),
    ("an item of many keys", lamp4, {"profile": [{"id": "a"} | dict.fromkeys(map(str, range(999)))]}, None, ["1, 2,"]),
    ("a long id", lamp4, {"id": "x" * 9999}, None, ["xxx…"]),
    ("a message of one line", lamp4, {"input": "one\ntwo\r\n", "id": "1\n2"}, {"1\n2": "a"}, ["wording"]),
]


@pytest.mark.parametrize(("why", "module", "questions", "golds", "named"), BAD, ids=[row[0] for row in BAD])
def test_bad_data_names_place_and_remedy(tmp_path, why, module, questions, golds, named):
    task = module.TASK
    rows = [question(task) | questions] if isinstance(questions, dict) else questions
    write(tmp_path, task, rows, {"1": GOLDS[task.lamp]} if golds is None else golds)
    with pytest.raises(DataError) as caught:
        load(task, tmp_path, "dev")
    message = str(caught.value)
    for part in [str(tmp_path), *named]:
        assert part in message
    assert message.splitlines() == [message]
    assert "; " in message, "what to do"
    assert len(message) < 1000


@pytest.mark.parametrize(("gone", "named"), [("questions", "train_questions"), ("outputs", "train_outputs")])
def test_missing_file_is_named(tmp_path, gone, named):
    write(tmp_path, lamp4.TASK, [question(lamp4.TASK)], {"1": "a"}, split="train")
    (tmp_path / f"train_{gone}.json").unlink()
    with pytest.raises(DataError, match=named):
        load(lamp4.TASK, tmp_path, "train")
    with pytest.raises(DataError, match="no such directory"):
        load(lamp4.TASK, tmp_path / "elsewhere", "train")


def test_invalid_utf8(tmp_path):
    write(tmp_path, lamp4.TASK, [question(lamp4.TASK)], {"1": "a"})
    whole = (tmp_path / "dev_questions.json").read_bytes()
    (tmp_path / "dev_questions.json").write_bytes(whole.replace(b"rained", b"r\xff\xfened"))
    with pytest.raises(DataError, match="not valid JSON"):
        load(lamp4.TASK, tmp_path, "dev")


@REUSED
@given(cut=st.floats(0, 1, exclude_max=True), which=st.sampled_from(["questions", "outputs"]))
def test_truncated_file(tmp_path, cut, which):
    write(tmp_path, lamp4.TASK, [question(lamp4.TASK, key) for key in "123"], dict.fromkeys("123", "a"))
    file = tmp_path / f"dev_{which}.json"
    os.truncate(file, int(cut * file.stat().st_size))
    with pytest.raises(DataError):
        load(lamp4.TASK, tmp_path, "dev")


def test_limit_stops_reading(tmp_path):
    rows = json.dumps([question(lamp4.TASK, key) for key in "123"])
    write(tmp_path, lamp4.TASK, rows[:-20], dict.fromkeys("123", "a"))
    assert [example.id for example in load(lamp4.TASK, tmp_path, "dev", limit=2)] == ["1", "2"]
    with pytest.raises(ValueError, match="at least 1"):
        load(lamp4.TASK, tmp_path, "dev", limit=0)


def test_many_flawed_rows_are_counted(tmp_path):
    rows = [question(lamp4.TASK, str(n), **({} if n % 2 else {"input": None, "profile": None})) for n in range(20)]
    write(tmp_path, lamp4.TASK, rows, {str(n): "a" for n in range(20)})
    with pytest.raises(DataError) as caught:
        load(lamp4.TASK, tmp_path, "dev")
    message = str(caught.value)
    assert "dev_*.json: 10 flawed rows: question 0: its input is None" in message
    assert "question 4" in message and "question 6" not in message
    assert f"data check {tmp_path}" in message and "--skip-bad" in message


def test_old_lamp_2_is_recognized(tmp_path):
    rows = [{"id": str(n), "input": "Which category … article: Rain", "profile": []} for n in range(9)]
    write(tmp_path, lamp2.TASK, rows, {str(n): "politics" for n in range(9)})
    with pytest.raises(DataError, match="9 flawed rows: .*the movies are in the folder LaMP_2/new"):
        load(lamp2.TASK, tmp_path, "dev")


def test_flawed_rows_can_be_left_out(tmp_path):
    rows = [
        question(lamp2.TASK, "1"),
        question(lamp2.TASK, "2", profile=[{}, {}]),
        question(lamp2.TASK, None),
        question(lamp2.TASK, "1", "Another film."),
        question(lamp2.TASK, "4"),
        question(lamp2.TASK, "5"),
        question(lamp2.TASK, "6"),
    ]
    golds = [{"id": key, "output": "comedy"} for key in "11245"] + [{"output": "comedy"}, {"id": "8", "output": "x"}]
    golds[2]["output"] = "boring"  # of the question that is flawed already
    write(tmp_path, lamp2.TASK, rows, golds)
    flaws = []
    examples = load(lamp2.TASK, tmp_path, "dev", left_out=flaws.append)
    assert [example.id for example in examples] == ["4", "5"]
    assert [flaw.id for flaw in flaws] == ["gold 6", "1", "2", "row 3", "1", "6", "8"]
    assert [example.id for example in load(lamp2.TASK, tmp_path, "dev", limit=1, left_out=flaws.append)] == ["4"]
    with pytest.raises(DataError, match="7 flawed rows"):
        load(lamp2.TASK, tmp_path, "dev")
    write(tmp_path, lamp2.TASK, rows[1:2], golds[3:4])
    with pytest.raises(DataError, match="all its rows are flawed"):
        load(lamp2.TASK, tmp_path, "dev", left_out=flaws.append)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-9, 2**63 - 1)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
PLACES = [("id",), ("input",), ("profile",), ("profile", 0), ("user_id",)]
PLACES += [("profile", 0, name) for name in ("id", "text", "score", "date")]


@REUSED
@given(place=st.sampled_from(PLACES), value=JSON, gold=st.sampled_from("12345") | JSON)
def test_any_row_is_an_example_or_an_error(tmp_path, place, value, gold):
    spoiled = question(lamp3.TASK, "2")
    within = spoiled
    for step in place[:-1]:
        within = within[step]
    within[place[-1]] = value
    rows = [question(lamp3.TASK, "1"), spoiled, question(lamp3.TASK, "3")]
    write(tmp_path, lamp3.TASK, rows, {"1": "4", "2": gold, "3": "5"})
    flaws = []
    examples = load(lamp3.TASK, tmp_path, "dev", left_out=flaws.append)
    good = {example.id for example in examples}
    assert {"1", "3"} <= good | {flaw.id for flaw in flaws} and "1" in good
    assert bool(flaws) == (len(examples) < 3)
    for flaw in flaws:
        assert str(flaw).splitlines() == [str(flaw)]
    if flaws:
        with pytest.raises(DataError):
            load(lamp3.TASK, tmp_path, "dev")


def test_skipped_rows(tmp_path):
    rows = [question(lamp2.TASK, "1"), question(lamp2.TASK, "110", profile=None)]
    write(tmp_path, lamp2.TASK, rows, {"1": "comedy", "110": "no tag"})
    assert [example.id for example in load(lamp2.TASK, tmp_path, "dev", skip=["110"])] == ["1"]
    with pytest.raises(DataError, match="all its questions are skipped"):
        load(lamp2.TASK, tmp_path, "dev", skip=["1", "110"])


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample data is not part of the checkout")
@pytest.mark.parametrize(("split", "count"), [("dev", 71), ("train", 200)])
def test_real_data_in_lamps_format(split, count):
    examples = load(lamp4.TASK, SAMPLES / "blog18f_LaMP4like", split)
    assert len(examples) == count
    assert all(example.article and example.headline and example.profile and example.user for example in examples)
