"""Dense retrieval: ranked by likeness, embedded once, and embedders that are at fault told so."""

import copy
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import dspy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2p_dspy import R2P, Dense, Profile
from r2p_dspy.retrieval import dense
from r2p_dspy.retrieval.embedders import MeanPooling, embedder
from tests.embedders import build_encoder, hashed
from tests.film import Film

WORDS = st.sampled_from(["a", "rain", "sea", "storm", "lighthouse"])
TEXTS = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)


class Counted:
    """An embedder that keeps what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, texts):
        self.calls.append(list(texts))
        return hashed(texts)


def profile_of(texts):
    return Profile.of([{"id": str(n), "text": text} for n, text in enumerate(texts)])


def ids(items):
    return [int(item.id) for item in items]


@given(texts=st.lists(TEXTS, min_size=1, max_size=30), query=TEXTS, k=st.integers(0, 35), normalize=st.booleans())
def test_order_is_by_similarity_then_position(texts, query, k, normalize):
    [query_vector], vectors = hashed([query]), hashed(texts)
    likeness = vectors @ query_vector
    if normalize:
        likeness = likeness / np.linalg.norm(vectors, axis=1)
    ranking = ids(Dense(hashed, k=k, normalize=normalize)(query, profile_of(texts)))
    assert len(set(ranking)) == len(ranking) == min(k, len(texts))
    assert np.allclose(likeness[ranking], sorted(likeness, reverse=True)[:k])
    places = {text: [at for at in ranking if texts[at] == text] for text in texts}
    assert all(places[text] == sorted(places[text]) for text in texts)


def test_vectors_are_bounded_by_their_bytes(monkeypatch):
    monkeypatch.setattr(dense, "_CACHE_BYTES", 100_000)
    short, long = profile_of(["rain", "sea"]), profile_of([f"{n} rain" for n in range(2000)])
    embedder = Counted()
    retriever = Dense(embedder, k=1)
    for profile in (short, long, long, short):
        retriever("rain", profile)
    sizes = [len(texts) for texts in embedder.calls if texts != ["rain"]]
    assert sizes == [2, 2000, 2], "the long one is used twice, and drives the short one out"


def test_only_inner_product_counts_length():
    profile = profile_of(["rain sea sea sea", "rain"])
    assert ids(Dense(hashed, k=1)("rain", profile)) == [1]
    assert ids(Dense(hashed, k=2, normalize=False)("sea", profile)) == [0, 1]


def test_equal_rows_tie():
    rows = np.random.default_rng(0).normal(size=(3, 37))
    query_vector = np.random.default_rng(1).normal(size=37)
    vectors = {f"text {n}": rows[n % 3] for n in range(300)}  # other texts, equal vectors
    ranking = ids(
        Dense(lambda texts: [vectors.get(text, query_vector) for text in texts], k=300)("q", profile_of(vectors))
    )
    order = sorted(range(3), key=lambda n: -(rows[n] @ query_vector) / np.linalg.norm(rows[n]))
    assert ranking == [at for kind in order for at in range(kind, 300, 3)]


def test_profiles_and_equal_texts_are_embedded_once():
    embedder = Counted()
    retriever, profile = Dense(embedder), profile_of(["rain", "sea", "rain"])
    for query in ("storm", "sea"):
        retriever(query, profile)
    copy.deepcopy(retriever)("rain", profile_of(["rain", "sea", "rain"]))
    assert embedder.calls == [["rain", "sea"], ["storm"], ["sea"], ["rain"]]
    profile.items[0] = profile_of(["storm"])[0]
    retriever("sea", profile)
    assert embedder.calls[4:] == [["storm", "sea", "rain"], ["sea"]], "the vectors follow the content"


def test_nothing_to_retrieve_calls_no_embedder():
    def none(texts):
        raise AssertionError("not to be asked")

    assert Dense(none)("rain", Profile()) == Dense(none, k=0)("rain", profile_of(["rain"])) == Profile()


def test_threads_share_a_profiles_vectors():
    embedder, gate = Counted(), threading.Barrier(8)
    retriever = Dense(embedder, k=3)
    profiles = [profile_of([f"rain {n}", f"sea {n}", "storm"]) for n in range(40)]

    def ask(thread):
        gate.wait()
        return [ids(retriever(f"sea {n}", profile)) for n, profile in enumerate(profiles)]

    with ThreadPoolExecutor(8) as pool:
        rankings = list(pool.map(ask, range(8)))
    assert rankings == [[ids(Dense(hashed, k=3)(f"sea {n}", p)) for n, p in enumerate(profiles)]] * 8
    assert len([call for call in embedder.calls if len(call) == 3]) == 40


def test_dense_copies_and_compares():
    retriever, profile = Dense(hashed, k=2, query="film", text=("text",)), profile_of(["rain", "sea", "a rain"])
    twin = pickle.loads(pickle.dumps(retriever))
    assert twin == retriever and twin("rain", profile) == retriever("rain", profile)
    assert copy.deepcopy(retriever) == retriever


def test_matched_text_is_chosen_as_for_bm25():
    profile = Profile.of([{"id": "1", "title": "rain", "text": "sea"}, {"id": "2", "title": "sea", "text": "rain"}])
    assert ids(Dense(hashed, k=1, text=("text",))("rain", profile)) == [2]
    assert ids(Dense(hashed, k=1, text=lambda item: item.fields["title"])("rain", profile)) == [1]


def test_dense_replaces_bm25_in_a_program():
    program = R2P(Film, retriever=Dense(dspy.Embedder(hashed, caching=False), k=2, query="film"))
    shown = program.deepcopy().retrieve({"film": "a storm at sea", "profile": profile_of(["rain", "sea", "a storm"])})
    assert ids(shown["profile"]) == [2, 1]


@pytest.mark.parametrize(
    ("why", "returned", "message"),
    [
        ("one row too few", lambda texts: hashed(texts)[1:], r"shape \(1, 16\) for 2 texts"),
        ("one row for all", lambda texts: hashed(texts)[0], r"shape \(16,\) for 2 texts"),
        ("token vectors", lambda texts: np.zeros((2, 3, 16)), r"shape \(2, 3, 16\)"),
        ("rows of nothing", lambda texts: np.zeros((2, 0)), r"shape \(2, 0\)"),
        ("rows of unequal length", lambda texts: [[1.0], [1.0, 2.0]], "cannot be read as an array"),
        ("no numbers", lambda texts: [["a"], ["b"]], "cannot be read as an array"),
        ("nothing", lambda texts: None, r"shape \(\) for 2 texts"),
        ("NaN", lambda texts: [[1.0, 2.0], [float("nan"), 1.0]], "not finite for the text 'sea'"),
        ("more than a float holds", lambda texts: [[1e300, 1.0]] * 2, "not finite for the text 'rain'"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_faulty_embedder(why, returned, message):
    with pytest.raises(ValueError, match=message) as failure:
        Dense(returned)("storm", profile_of(["rain", "sea"]))
    assert "\n" not in str(failure.value)


def test_query_vector_of_another_length():
    with pytest.raises(ValueError, match="16 numbers for the query and of 2"):
        Dense(lambda texts: hashed(texts) if texts == ["q"] else np.ones((len(texts), 2)))("q", profile_of(["a", "b"]))


def test_zero_vector_scores_zero():
    assert ids(Dense(lambda texts: hashed(texts) * 0, k=2)("rain", profile_of(["rain", "sea"]))) == [0, 1]


def test_name_instead_of_embedder():
    with pytest.raises(ValueError, match=r"'facebook/contriever' cannot be called; .*embedder\(NAME\)"):
        Dense("facebook/contriever")
    with pytest.raises(ValueError, match="at least 0"):
        Dense(hashed, k=-1)


# Models in this process. ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder_dir(tmp_path_factory):
    return build_encoder(tmp_path_factory.mktemp("encoder") / "model")


@cache
def loaded(directory):
    from transformers import AutoModel, AutoTokenizer

    return AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()


def by_hand(directory, text, longest=12):
    """The mean over one text's tokens, alone in its batch, so without any padding."""
    import torch

    tokenizer, model = loaded(directory)
    tokens = tokenizer(text)["input_ids"]
    tokens = tokens if len(tokens) <= longest else [*tokens[: longest - 1], tokens[-1]]
    with torch.no_grad():
        return model(torch.tensor([tokens])).last_hidden_state[0].mean(dim=0).numpy()


def test_mean_pooling_ignores_padding(encoder_dir):
    texts = ["rain", "a storm at sea near the lighthouse", "", "sea " * 50, *["a rain"] * 20]
    vectors = embedder(str(encoder_dir))(texts)
    assert vectors.shape == (24, 16)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.allclose(vector, by_hand(encoder_dir, text), atol=1e-5), text


def test_model_ranks_as_lamps_contriever_script(encoder_dir):
    texts = ["rain", "a storm sea", "sea sea", "lighthouse rain a", "storm"]
    scores = np.array([by_hand(encoder_dir, text) for text in texts]) @ by_hand(encoder_dir, "a storm")
    retrieved = Dense(embedder(str(encoder_dir)), k=5, normalize=False)("a storm", profile_of(texts))
    assert ids(retrieved) == np.argsort(-scores).tolist()


def test_loading_is_quiet(encoder_dir, capfd):
    embedder(f"hf:{encoder_dir}")
    assert capfd.readouterr() == ("", "")


def test_threads_share_a_model(encoder_dir):
    embed, texts = MeanPooling(str(encoder_dir)), ["rain", "a storm sea", "sea " * 9]
    with ThreadPoolExecutor(8) as pool:
        vectors = list(pool.map(lambda n: embed(texts[: n % 3 + 1])[-1], range(24)))
    assert all(np.allclose(vector, by_hand(encoder_dir, texts[n % 3]), atol=1e-5) for n, vector in enumerate(vectors))


def sentence_transformers(directory, mean, *more):
    """Make a model one of sentence-transformers, as its own files say."""
    kinds = ["Transformer", "Pooling", *more]
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"sentence_transformers.models.{kind}"}
        for n, kind in enumerate(kinds)
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(
        json.dumps({"pooling_mode_mean_tokens": mean, "pooling_mode_cls_token": not mean})
    )
    return directory


def test_sentence_transformers_vectors_are_unit_length(tmp_path):
    directory = sentence_transformers(build_encoder(tmp_path / "model"), True, "Normalize")
    vectors = embedder(str(directory))(["rain", "a storm sea"])
    hand = by_hand(directory, "rain")
    assert np.allclose(vectors[0], hand / np.linalg.norm(hand), atol=1e-5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


@pytest.mark.parametrize(("mean", "more"), [(False, []), (True, ["Dense"])])
def test_other_pooling_is_refused(mean, more, tmp_path):
    directory = sentence_transformers(build_encoder(tmp_path / "model"), mean, *more)
    with pytest.raises(ValueError, match="needs more than the mean .* sentence-transformers"):
        embedder(str(directory))


def empty(path):
    path.mkdir()
    return path


def broken(path):
    path.mkdir()
    (path / "config.json").write_text("{")
    return path


def without_its_last_layer(path):
    config = json.loads((build_encoder(path) / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    return path


def without_padding(path):
    build_encoder(path)
    config = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": None}))
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "no such directory"),
        (empty, "no config.json"),
        (broken, "cannot be loaded"),
        (without_its_last_layer, "cannot be loaded .*lack encoder.layer.2"),
        (without_padding, "cannot make vectors of texts .*padding"),
        (lambda path: "nobody/nothing", "cannot be loaded"),
        (lambda path: "two words", "no such directory"),
        (lambda path: "", "no such directory"),
    ],
)
def test_unusable_model_fails_in_one_line(make, message, tmp_path):
    name = str(make(tmp_path / "model"))
    with pytest.raises(ValueError, match=message) as failure:
        embedder(name)
    assert "\n" not in str(failure.value) and repr(name) in str(failure.value)


# Served models. ---------------------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch):
    """What the client of served models is asked, and answers."""
    import litellm

    def answer(model, input, **options):
        requests.append((model, input))
        return litellm.EmbeddingResponse(data=[{"embedding": list(row)} for row in hashed(input) * 3])

    requests = []
    monkeypatch.setattr(litellm, "embedding", answer)
    return requests


def test_served_model_is_known_by_its_provider(served):
    embed = embedder("openai/text-embedding-3-small")
    assert np.allclose(embed(["rain", "a storm"]), hashed(["rain", "a storm"]) / [[1], [2**0.5]])
    assert served == [("openai/text-embedding-3-small", ["rain", "a storm"])]
    embed(["", "sea"])
    assert served[-1][1] == [" ", "sea"], "some providers refuse an empty text"


def test_served_models_failure_is_one_line(monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="'openai/text-embedding-3-small' failed .*set its key") as failure:
        embedder("openai/text-embedding-3-small")(["another text"])
    assert "\n" not in str(failure.value)
    assert capsys.readouterr().out == ""
