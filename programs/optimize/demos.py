"""Optimizers that choose demos: each one a run of the program that passed the gate, with all its stages."""

from collections.abc import Callable
from typing import Any

import dspy
from dspy.teleprompt import BootstrapFewShot, BootstrapFewShotWithRandomSearch, KNNFewShot

from programs.optimize.context import CANDIDATES, DEMOS, CompileContext
from r2p_dspy import Dense


def bootstrap(job: CompileContext) -> dspy.Module | None:
    """The first examples that pass."""
    return _few(job).compile(job.program, trainset=job.passing[0]) if job.passing[0] else None


def random_search(job: CompileContext) -> dspy.Module | None:
    """Several sets of demos, of which the best on dev wins."""
    if not job.passing[0]:
        return None
    search = BootstrapFewShotWithRandomSearch(
        metric=job.scored.optimizer_metric,
        max_bootstrapped_demos=DEMOS,
        max_labeled_demos=0,  # DSPy's default puts 16 raw rows without stages into the prompt
        num_candidate_programs=CANDIDATES,
        num_threads=job.threads,
    )
    # Of its candidates -3 is the program as it is, -2 has labelled demos only.
    best = search.compile(job.program, trainset=job.passing[0], valset=[*job.dev], restrict=[-1, *range(CANDIDATES)])
    for one in best.candidate_programs:
        name = "unshuffled" if one["seed"] == -1 else f"shuffled {one['seed']}"
        job.candidates[name] = one["score"]
    return best


def knn(job: CompileContext) -> dspy.Module | None:
    """The demos that are most often among the nearest to a question of dev, the same for every question.

    DSPy's KNNFewShot bootstraps anew at every call, from the examples nearest to its question: that takes several calls
    an answer, and is in no file. What a file can hold are demos that are near to many questions.
    """
    passing, _ = job.passing
    if not passing:
        return None
    question = job.task.question
    asked = [example.with_inputs(question) for example in passing]  # by the whole history all would be near
    nearest = KNNFewShot(DEMOS, asked, dspy.Embedder(_vectorizer(job), caching=False)).KNN
    places = {id(example): place for place, example in enumerate(asked)}
    votes = [0] * len(asked)
    for example in job.dev if len(asked) > 1 else ():
        for near in nearest(**{question: example[question]}):
            votes[places[id(near)]] += 1
    chosen = sorted(range(len(asked)), key=lambda place: -votes[place])[:DEMOS]
    return _few(job).compile(job.program, trainset=[passing[place] for place in chosen])


def _few(job: CompileContext) -> BootstrapFewShot:
    return BootstrapFewShot(metric=job.scored.optimizer_metric, max_bootstrapped_demos=DEMOS, max_labeled_demos=0)


def _vectorizer(job: CompileContext) -> Callable[[list[str]], Any]:
    """The program's own embedder, if it retrieves with one; else bags of words."""
    if isinstance(job.program.retriever, Dense):
        return job.program.retriever.embedder
    from sklearn.feature_extraction.text import HashingVectorizer

    bags = HashingVectorizer(n_features=2**12, alternate_sign=False)
    return lambda texts: bags.transform(texts).toarray()
