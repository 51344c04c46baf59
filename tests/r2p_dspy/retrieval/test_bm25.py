"""Retrieval: LaMP's official rankings to the tie, indexes that follow the content, controls that repeat."""

import copy
import json
import pickle
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.bm25 import BM25
from r2p_dspy.retrieval.index import Index, index
from r2p_dspy.retrieval.retriever import query_text
from r2p_dspy.retrieval.simple import All, Random, Recency

# Few words, so that ties, words in more than half of the texts (their idf is floored) and repeats are common.
WORDS = st.sampled_from(["a", "A", "rain", "rain,", "sea", "the", "lighthouse"])
SAMPLES = Path(__file__).parents[3].parent / "shared/lamp_format"
TEXTS = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)


def profile_of(texts, **more):
    return Profile(items=[Item(id=str(n), fields={"text": text}, **more) for n, text in enumerate(texts)])


def official(query, texts, count):
    """LaMP's `retrieve_top_k_with_bm25`, over positions."""
    index = BM25Okapi([text.split() for text in texts])
    return index.get_top_n(query.split(), list(range(len(texts))), n=count)


@given(
    texts=st.lists(TEXTS, min_size=1, max_size=40),
    query=st.lists(WORDS, max_size=10).map(" ".join),
    k=st.integers(1, 45),
)
def test_bm25_ranks_as_lamp_does(texts, query, k):
    ranked = BM25(k=k, tokenize=str.split)(query, profile_of(texts))
    assert [int(item.id) for item in ranked] == official(query, texts, k)


@given(
    texts=st.lists(TEXTS | st.just(""), min_size=1, max_size=40).filter(any),
    query=st.lists(WORDS | st.just("unknown"), max_size=10),
)
def test_scores_equal_rank_bm25s(texts, query):
    corpus = [text.split() for text in texts]
    ours, theirs = Index(corpus), BM25Okapi(corpus)
    assert ours.get_scores(query).tolist() == theirs.get_scores(query).tolist()
    everything = list(range(len(corpus)))
    assert ours.get_batch_scores(query, everything) == theirs.get_batch_scores(query, everything)
    assert ours.get_top_n(query, texts, n=9) == theirs.get_top_n(query, texts, n=9)


@given(
    texts=st.lists(TEXTS | st.just(""), min_size=1, max_size=30).filter(any),
    query=st.lists(WORDS | st.just("unknown"), max_size=10),
    cuts=st.lists(st.integers(0, 30), max_size=3),
)
def test_an_index_that_grew_is_that_of_all_texts(texts, query, cuts):
    corpus, grown = [text.split() for text in texts], None
    places = [0, *sorted(cuts), len(corpus)]
    for start, end in pairwise(places):
        grown = Index(corpus[start:end], grown)
    whole = Index(corpus)
    assert grown.get_scores(query).tolist() == whole.get_scores(query).tolist()
    assert (grown.idf, grown.avgdl, grown.corpus_size) == (whole.idf, whole.avgdl, whole.corpus_size)


def test_only_the_new_texts_of_a_growing_history_are_split():
    split = []

    def tokenize(text):
        split.append(text)
        return text.split()

    texts = [f"note {number}" for number in range(5)]
    bm25 = BM25(k=1, tokenize=tokenize)
    for count in (3, 4, 5):
        assert [item.id for item in bm25(texts[count - 1], profile_of(texts[:count]))] == [str(count - 1)]
    assert [text for text in split if split.count(text) == 1] == ["note 0", "note 1"]
    assert bm25("note 9", profile_of(["note 0", "note 9"]))[0].id == "1", "a history that only begins alike"


@pytest.mark.parametrize("corpus", [[], [[]], [[], []]], ids=["no document", "an empty one", "two empty ones"])
def test_corpus_without_words_scores_zero(corpus):
    with pytest.raises(ZeroDivisionError):
        BM25Okapi(corpus)
    assert Index(corpus).get_scores(["rain"]).tolist() == [0.0] * len(corpus)


@given(texts=st.lists(TEXTS, min_size=2, max_size=6), changed=TEXTS, query=TEXTS)
def test_index_follows_a_changed_profile(texts, changed, query):
    profile, retriever = profile_of(texts), BM25(k=9, tokenize=str.split)
    retriever(query, profile)
    profile.items[0] = Item(id="0", fields={"text": changed})
    assert [int(item.id) for item in retriever(query, profile)] == official(query, [changed, *texts[1:]], 9)


@pytest.mark.parametrize(
    ("case", "query", "texts"),
    [
        ("no word of the query occurs", "storm", ["rain", "sea", "rain"]),
        ("an empty query", "", ["rain", "sea"]),
        ("one item", "rain", ["rain"]),
        ("all the same", "rain", ["rain"] * 30),
        ("case and punctuation count", "Rain rain.", ["rain", "Rain", "rain.", "RAIN"]),
    ],
)
def test_ties_keep_numpys_reversed_order(case, query, texts):
    assert [int(item.id) for item in BM25(k=99, tokenize=str.split)(query, profile_of(texts))] == official(
        query, texts, 99
    ), case


def test_empty_profile():
    for retriever in (BM25(), Recency(), Random(), All()):
        assert retriever("rain", Profile()) == Profile()


def test_items_with_empty_text_are_ranked():
    """BM25Okapi itself divides by zero here."""
    retrieved = BM25(k=2, text=("title",))("rain", profile_of(["rain", "sea"]))
    assert {item.id for item in retrieved} == {"0", "1"}


@pytest.mark.parametrize("retriever", [BM25, Recency, Random])
def test_k(retriever):
    profile = profile_of(["rain", "sea", "a rain"])
    assert len(retriever(k=0)("rain", profile)) == 0
    assert len(retriever(k=2)("rain", profile)) == 2
    assert len(retriever(k=9)("rain", profile)) == 3
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match="at least 0"):
            retriever(k=wrong)


def test_matched_text_is_named_or_computed():
    items = [
        {"id": "1", "title": "rain", "text": "sea"},
        {"id": "2", "title": "sea", "text": "rain"},
        {"id": "3", "title": "storm", "text": "storm"},
    ]
    profile = Profile.of(items)
    assert BM25(k=1, text=("title",))("rain", profile)[0].id == "1"
    assert BM25(k=1, text=("text",))("rain", profile)[0].id == "2"
    assert BM25(k=1, text=lambda item: item.fields["text"])("rain", profile)[0].id == "2"


@pytest.mark.parametrize("retriever", [BM25, Recency])
def test_first_k_are_the_head_of_the_ranking(retriever):
    profile = profile_of(["rain", "sea", "a rain", "rain rain"], date="2020-01-01")
    whole = retriever(k=0).rank("rain", profile)
    assert len(whole) == 4
    assert all(retriever(k=k)("rain", profile).items == whole[:k] for k in range(6))


def test_bind_sets_only_unset_options():
    bound = BM25(k=2, text=("title",)).bind(query="article", text=("text",))
    assert (bound.k, bound.query, bound.text) == (2, "article", ("title",))


@pytest.mark.parametrize(
    ("query", "expected"),
    [(None, "an article dry"), ("tone", "dry"), (lambda inputs: inputs["article"].upper(), "AN ARTICLE")],
)
def test_query_text(query, expected):
    inputs = {"article": "an article", "tone": "dry", "length": 7, "profile": Profile()}
    assert query_text(inputs, query) == expected


def test_unknown_query_field():
    with pytest.raises(ValueError, match=r"'topic'.*article, profile"):
        query_text({"article": "x", "profile": Profile()}, "topic")


def test_recency_orders_as_lamp_does():
    dates = ["2020-01-02", "2021-01-01", "2020-01-02", "2019-12-31", None]
    items = [Item(id=str(n), fields={"text": "x"}, date=date) for n, date in enumerate(dates)]
    assert [item.id for item in Recency(k=9)("", Profile(items=items))] == ["1", "2", "0", "3", "4"]


def test_recency_date_formats():
    dates = {"a": "2020", "b": "May 1, 2024", "c": "no date", "d": "1714608000", "e": "01.05.2024 09:30"}
    profile = Profile.of([{"id": name, "text": "x", "date": date} for name, date in dates.items()])
    assert [item.id for item in Recency(k=5)("", profile)] == ["d", "e", "b", "a", "c"]


@pytest.mark.parametrize("date", ["5/1/2024", "2021-13-77", "9" * 5000, "2 days ago"])
def test_recency_refuses_other_dates(date):
    profile = Profile.of([{"id": "m7", "text": "x", "date": "2024-05-01"}, {"id": "m9", "text": "x", "date": date}])
    with pytest.raises(
        ConfigError, match="^item 'm9': its date '.*' cannot be read as a date; write it as 2024-05-01$"
    ):
        Recency()("", profile)


def test_random_depends_on_seed_query_and_profile():
    profile, other = profile_of(map(str, range(50))), profile_of(map(str, range(1, 51)))
    drawn = [item.id for item in Random(k=8, seed=3)("q", profile)]
    assert drawn == [item.id for item in Random(k=8, seed=3)("q", profile)]
    assert drawn == ["26", "19", "28", "37", "21", "44", "31", "40"], "the same in every process"
    assert len(set(drawn)) == 8
    for retriever, query, items in (
        (Random(k=8, seed=4), "q", profile),
        (Random(k=8, seed=3), "r", profile),
        (Random(k=8, seed=3), "q", other),
    ):
        assert drawn != [item.id for item in retriever(query, items)]


@pytest.mark.parametrize("retriever", [BM25(k=2, query="article", text=("text",)), Recency(2), Random(2, 1), All()])
def test_retrievers_copy_pickle_and_compare(retriever):
    profile = profile_of(["rain", "sea", "a rain"])
    retrieved = retriever("rain", profile)
    for twin in (copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever))):
        assert twin == retriever
        assert twin("rain", profile) == retrieved


def test_threads_keep_profiles_apart():
    profiles = [profile_of([f"word{n} rain", f"rain sea word{n + 1}", "storm"]) for n in range(100)]
    expected = [[item.id for item in BM25(k=3)(f"word{n}", profile)] for n, profile in enumerate(profiles)]
    with ThreadPoolExecutor(16) as pool:
        retrieved = list(
            pool.map(lambda n: [i.id for i in BM25(k=3)(f"word{n % 100}", profiles[n % 100])], range(1000))
        )
    assert retrieved == expected * 10


def test_second_query_reuses_the_index():
    profile = profile_of([" ".join(f"word{(n * m) % 997}" for m in range(200)) for n in range(500)])
    retriever = BM25(k=4)

    def seconds(query):
        start = time.perf_counter()
        retriever(query, profile)
        return time.perf_counter() - start

    first = seconds("word1 word2")
    assert min(seconds(f"word{n} word2") for n in range(5)) < first / 5


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample data is not part of the checkout")
def test_rankings_of_real_data():
    for row in json.loads((SAMPLES / "blog18f_LaMP4like/dev_questions.json").read_text()):
        texts = [f"{item['title']} {item['text']}" for item in row["profile"]]
        query = row["input"].partition("article:")[2].strip()
        ranked = BM25(k=99, text=("title", "text"), tokenize=str.split)(query, Profile.of(row["profile"]))
        assert [item.id for item in ranked] == [row["profile"][at]["id"] for at in official(query, texts, 99)]


@pytest.mark.parametrize(
    ("case", "query", "text"),
    [
        ("capitals", "LIGHTHOUSE", "the lighthouse"),
        ("punctuation", "rain?", "Rain, again."),
        ("decomposed", "cafe\u0301", "Café"),
        ("full width", "ＡＢＣ", "abc"),
        ("Chinese", "我想买茶叶", "他喜欢喝茶"),
        ("Japanese", "猫の写真", "うちの猫が寝ている"),
        ("Korean particles", "고양이가 잔다", "고양이를 좋아한다"),
        ("Thai", "แมวน่ารัก", "ฉันเลี้ยงแมวสองตัว"),
        ("Hindi", "बारिश का मौसम", "आज बारिश हुई"),
        ("emoji", "🎉", "a party 🎉!"),
    ],
)
def test_any_script_matches(case, query, text):
    profile = profile_of(["unrelated words", text, "其他的事", "บ้านใหญ่", "다른 것"])
    assert BM25(k=1)(query, profile)[0].id == "1", case
    assert BM25().matches(query, profile) and not BM25().matches(query, profile_of(["unrelated words"]))


def test_a_tokenizer_of_ones_own():
    def letters(text):
        return list(text)

    assert BM25(k=1, tokenize=letters)("z", profile_of(["ab", "cz", "de"]))[0].id == "1"
    with pytest.raises(ConfigError, match="tokenize is a function"):
        BM25(tokenize="spaces")


@pytest.mark.parametrize("words_a_text", [3, 60, 600])
def test_an_index_says_what_memory_it_takes(words_a_text):
    texts = [" ".join(f"word{(n * m) % 977}" for m in range(words_a_text)) for n in range(60)]
    tracemalloc.start()
    built = index(texts, lambda text: text.split())
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken / 1.5 < sys.getsizeof(built) < taken * 1.5


class TestQueryText:
    PHOTO = dspy.Image("data:image/png;base64," + "A" * 4000)

    def test_media_are_no_part_of_a_query(self):
        assert query_text({"photo": self.PHOTO, "photos": [self.PHOTO], "film": "a storm"}) == "a storm"
        named = query_text({"pages": [{"text": "a storm", "photo": self.PHOTO}]}, "pages")
        assert "a storm" in named and "AAAA" not in named

    def test_a_field_of_media_alone_is_refused(self):
        with pytest.raises(ConfigError, match="'photo', which has no text"):
            query_text({"photo": self.PHOTO}, "photo")
