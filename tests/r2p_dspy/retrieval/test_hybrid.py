"""Retrievers made of retrievers: ranks fused, and a budget of tokens kept."""

import copy
import pickle
from fractions import Fraction

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import r2p_dspy
from r2p_dspy import BM25, R2P, All, Budget, Dense, Hybrid, Item, Profile, Random, Recency
from tests.embedders import hashed
from tests.film import Film


def profile_of(texts, **more):
    return Profile.of([{"id": str(n), "text": text, **more} for n, text in enumerate(texts)])


def ids(items):
    return [int(item.id) for item in items]


def listed(*numbers):
    """A retriever that has these items, in this order."""
    return lambda query, profile: Profile(items=[profile[number] for number in numbers])


ORDERS = st.integers(1, 12).flatmap(lambda n: st.lists(st.permutations(range(n)), min_size=1, max_size=4))


def by_the_paper(orders):
    """The order of the sums, exact; of equals the earlier item first."""
    items = sorted({item for order in orders for item in order})
    sums = {item: sum(Fraction(1, 61 + order.index(item)) for order in orders if item in order) for item in items}
    return sorted(items, key=lambda item: -sums[item])


class TestHybrid:
    @given(orders=ORDERS, shortest=st.integers(0, 12), k=st.integers(0, 13))
    def test_scores_are_the_papers_sum(self, orders, shortest, k):
        n = len(orders[0])
        orders = [orders[0], *(order[:shortest] for order in orders[1:])]
        fused = Hybrid(*[listed(*order) for order in orders], k=k)
        assert ids(fused("q", profile_of(["x"] * n))) == by_the_paper(orders)[:k]

    def test_item_in_both_rankings_wins(self):
        retrieved = Hybrid(listed(0, 1), listed(2, 1), k=9)("q", profile_of("abcd"))
        assert ids(retrieved) == [1, 0, 2], "and one that none has is left out"

    def test_small_constant_favours_first_ranks(self):
        parts = [listed(0, 2, 1), listed(3, 2, 1)]
        assert ids(Hybrid(*parts, k=2)("q", profile_of("abcd"))) == [2, 1]
        assert ids(Hybrid(*parts, k=3, constant=0)("q", profile_of("abcd"))) == [0, 2, 3]

    def test_whole_rankings_count_whatever_k(self):
        profile = Profile.of(
            [
                {"id": "0", "text": "rain at sea", "date": "2020-01-01"},
                {"id": "1", "text": "rain", "date": "2020-01-02"},
                {"id": "2", "text": "a storm", "date": "2020-01-03"},
            ]
        )
        parts = [BM25, Recency, lambda k: Dense(hashed, k=k), lambda k: Hybrid(BM25(k=k), k=k)]
        wide, narrow = ([part(k=k) for part in parts] for k in (9, 1))
        for a, b in zip(wide, narrow, strict=True):
            assert ids(Hybrid(a, Recency(), k=9)("rain", profile)) == ids(Hybrid(b, Recency(), k=9)("rain", profile))
        assert ids(Hybrid(All(), k=9)("rain", profile)) == [0, 1, 2]

    def test_bm25_and_dense_together(self):
        profile = profile_of(["the sea", "a calm lighthouse", "storm storm storm", "a storm near a lighthouse", "rain"])
        parts = [BM25(), Dense(hashed)]
        orders = [[int(item.id) for item in part.rank("storm lighthouse", profile)] for part in parts]
        assert orders[0] != orders[1]
        assert ids(Hybrid(*parts, k=9)("storm lighthouse", profile)) == by_the_paper(orders)

    def test_query_is_the_parts_query(self):
        assert Hybrid(Recency(), BM25()).query is None
        hybrid = Hybrid(Recency(), BM25(query="film"), Dense(hashed, query="film"))
        assert hybrid.query == "film" and Hybrid(hybrid).query == "film"
        shown = R2P(Film, retriever=hybrid).retrieve({"film": "a storm", "profile": profile_of(["sea", "a storm"])})
        assert ids(shown["profile"]) == [1, 0]

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Hybrid(), "needs the retrievers to join"),
            (lambda: Hybrid(BM25), "no retriever"),
            (lambda: Hybrid(BM25(), "dense"), "'dense' is no retriever"),
            (lambda: Hybrid(BM25(), k=-1), "at least 0"),
            (lambda: Hybrid(BM25(), constant=-1), "at least 0"),
            (lambda: Hybrid(BM25(), constant=float("nan")), "at least 0"),
            (lambda: Hybrid(BM25(query="film"), Dense(hashed, query="title")), "different queries"),
        ],
    )
    def test_invalid_arguments(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_invented_item(self):
        def inventive(query, profile):
            return [Item(id="77", text="made up")]

        with pytest.raises(ValueError, match="'77', which is not in the profile"):
            Hybrid(BM25(), inventive)("q", profile_of("ab"))

    def test_repeated_item(self):
        with pytest.raises(ValueError, match="items 1 and 2 have the same id '1'"):
            Hybrid(listed(1), lambda query, profile: [profile[1], profile[1]])("q", profile_of("ab"))

    def test_part_without_items_is_ignored(self):
        assert ids(Hybrid(BM25(), lambda query, profile: None)("b", profile_of("abc"))) == ids(
            BM25()("b", profile_of("abc"))
        )


def words(line):
    """Counts an item's words as they stand in a prompt's line, which has three more."""
    return len(line.split()) - 3


class TestBudget:
    @pytest.mark.parametrize(
        ("case", "tokens", "kept"),
        [
            ("all fit", 99, [0, 1, 2, 3]),
            ("all just fit", 16, [0, 1, 2, 3]),
            ("one too few", 15, [0, 1, 2]),
            ("a later, shorter one stands in for one that does not fit", 9, [0, 2, 3]),
            ("one that alone takes too much keeps nobody out", 5, [0, 2]),
            ("none fits", 1, []),
        ],
    )
    def test_best_items_that_fit_are_taken(self, case, tokens, kept):
        profile = profile_of(["a a a", "b b b b b b b", "c c", "d d d d"])
        assert ids(Budget(All(), tokens=tokens, count=words)("q", profile)) == kept, case

    def test_budget_and_k_both_limit(self):
        profile = profile_of(["rain", "rain rain sea", "sea", "rain sea"])
        for k in range(5):
            retrieved = ids(BM25(k=k)("rain", profile))
            assert ids(Budget(BM25(k=k), tokens=99)("rain", profile)) == retrieved[:k]

    @given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=9), st.integers(1, 200))
    def test_shown_items_stay_within_budget(self, texts, tokens):
        profile = profile_of(texts, label="x")
        shown = Budget(All(), tokens=tokens, count=len)("q", profile).local()
        assert sum(len(str(item)) for item in shown) <= tokens

    def test_tokens_are_counted_by_the_configured_model(self):
        profile = profile_of(["Dalorney " * 20, "rain"])
        with dspy.context(lm=None):
            estimated = next(n for n in range(1, 99) if len(Budget(All(), tokens=n)("q", profile)) == 2)
        assert estimated == sum(-(-2 * len(str(item)) // 7) for item in profile)
        with dspy.context(lm=r2p_dspy.connect("pocket")):
            lm = dspy.settings.lm
            exact = sum(lm.engine.count_tokens(str(item)) for item in profile.local())
            assert exact != estimated
            assert len(Budget(All(), tokens=exact)("q", profile)) == 2
            assert len(Budget(All(), tokens=exact - 1)("q", profile)) == 1

    def test_query_is_the_retrievers_query(self):
        assert Budget(BM25(query="film"), tokens=9).query == "film" and Budget(All(), tokens=9).query is None

    @pytest.mark.parametrize("tokens", [0, -1, 1.5, True, None])
    def test_invalid_budget(self, tokens):
        with pytest.raises(ValueError, match="at least 1"):
            Budget(All(), tokens=tokens)

    def test_invalid_retriever(self):
        with pytest.raises(ValueError, match="'bm25' is no retriever"):
            Budget("bm25", tokens=9)


MADE = [Hybrid(BM25(query="film"), Recency(), Random(seed=3), k=2), Budget(Hybrid(BM25()), tokens=30)]


@pytest.mark.parametrize("retriever", MADE)
def test_wrappers_copy_and_compare(retriever):
    profile = profile_of(["rain", "sea", "a rain"])
    assert retriever("rain", Profile()) == Profile()
    for twin in (copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever))):
        assert twin == retriever and twin("rain", profile) == retriever("rain", profile)
