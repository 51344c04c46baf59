"""From LaMP's rows to a ranking, item for item what LaMP's own script makes of them (`rank_profiles.py`)."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from programs.tasks import TASKS
from programs.tasks.retrievers import default_retriever
from r2p_dspy import Recency
from r2p_dspy.retrieval.retriever import query_text
from tests.lamp import load


def after(marker):
    return lambda text: text[text.find(marker) + len(marker) :].strip()


def second_and_third_quoted(text):
    return " ".join(re.findall(r'"([^"]*)"', text)[1:3])


# What the official script takes as query, from a row's input, and as text of an item.
OFFICIAL = {
    "lamp1": (second_and_third_quoted, "{title} {abstract}"),
    "lamp2": (after("description:"), "{description}"),
    "lamp3": (after("review:"), "{text}"),
    "lamp4": (after("article:"), "{title} {text}"),
    "lamp5": (after(":"), "{title} {abstract}"),
    "lamp6": (after(":"), "{text}"),
    "lamp7": (after(":"), "{text}"),
    # LongLaMP's longLaMP/prompts/prompts.py, in the names of the files.
    "longlamp-abstract": (after("items:"), "{title} {abstract}"),
    "longlamp-topic": (str, "{summary} {text}"),
    "longlamp-review": (str, "{overall} {summary} {description} {reviewText}"),
    "longlamp-email": (after(":"), "{text}"),
}
# Few words, so that ties are common, and such as the script could stumble on.
WORDS = ["a", "A", "rain", "rain,", "sea", '"sea"', "the", "review:", "article:", "description:", ":", "[1]", "café"]
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
# What a question has beside its text, where that matters.
FORMS = {"lamp1": "{}\n[1] {}\n[2] {}", "longlamp-abstract": "Write of {} items: {}", "longlamp-email": "Write: {}"}
DATE = st.dates().map(str)


@st.composite
def rows(draw, task):
    """Some of LaMP's rows of a task."""
    generated = []
    for number in range(draw(st.integers(1, 4))):
        question = FORMS.get(task.name, "{}").format(*[draw(TEXT) for _ in range(3)])
        profile = []
        for item in range(draw(st.integers(1, 25))):
            texts = {name: draw(TEXT) for name in task.fields}
            label = {task.label: draw(st.sampled_from(task.labels))} if task.label else {}
            profile.append({"id": f"{number}{item}", **texts, **label, "date": draw(DATE)})
        generated.append({"id": str(number), "input": task.wording(question), "profile": profile})
    return generated


def loaded(task, rows, folder):
    golds = [{"id": row["id"], "output": (task.labels or ("Rain",))[0]} for row in rows]
    (folder / "dev_questions.json").write_text(json.dumps(rows))
    (folder / "dev_outputs.json").write_text(json.dumps({"task": task.lamp, "golds": golds}))
    return load(task, folder, "dev")


def official(row, query, item):
    """The ids of a row's items in the official order; `item` is the format of their texts."""
    corpus = [item.format(**entry).split() for entry in row["profile"]]
    return [entry["id"] for entry in BM25Okapi(corpus).get_top_n(query.split(), row["profile"], n=len(corpus))]


def ranked(retriever, task, example):
    """The ids in the order in which a program's retriever has them."""
    query = query_text({**example.inputs(), task.profile: None}, getattr(retriever, "query", None))
    return [item.id for item in retriever(query, example[task.profile])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lamp")


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.lamp])
@settings(max_examples=25)
@given(data=st.data())
def test_bm25(name, data, folder):
    task, (query, item) = TASKS[name], OFFICIAL[name]
    generated = data.draw(rows(task))
    dated = replace(default_retriever(task, 99), text=lambda entry: f"{task.item_text(entry)} date: {entry.date}")
    for row, example in zip(generated, loaded(task, generated, folder), strict=True):
        official_query = query(row["input"])
        assert ranked(default_retriever(task, 99), task, example) == official(row, official_query, item)
        assert ranked(dated, task, example) == official(row, official_query, item + " date: {date}"), "with --use_date"


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.lamp])
@settings(max_examples=25)
@given(data=st.data())
def test_recency(name, data, folder):
    task = TASKS[name]
    generated = data.draw(rows(task))
    for row, example in zip(generated, loaded(task, generated, folder), strict=True):
        oldest_first = sorted(row["profile"], key=lambda entry: tuple(map(int, entry["date"].split("-"))))
        assert ranked(Recency(k=99), task, example) == [entry["id"] for entry in oldest_first[::-1]]


def test_other_wording_is_matched_as_it_is():
    task = TASKS["lamp1"]
    assert task.query_text({task.question: "which paper on rain?"}) == "which paper on rain?"
