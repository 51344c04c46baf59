"""Optimizers that choose demos. Each demo is a run of the program that passed the gate, with all its stages."""

from collections.abc import Callable
from typing import Any

import dspy
from dspy.teleprompt import BootstrapFewShot, BootstrapFewShotWithRandomSearch, KNNFewShot

from programs.optimize.context import CANDIDATES, DEMOS, CompileContext
from r2p_dspy import Dense


def bootstrap(context: CompileContext) -> dspy.Module | None:
    """Take the first examples that pass."""
    examples = context.passing.examples
    return _bootstrap(context, examples) if examples else None


def random_search(context: CompileContext) -> dspy.Module | None:
    """Draw several sets of demos, and take the one that is best on dev."""
    passing = context.passing
    if not passing.examples:
        return None
    search = BootstrapFewShotWithRandomSearch(
        metric=context.score.optimizer_metric,
        max_bootstrapped_demos=DEMOS,
        max_labeled_demos=0,  # DSPy's default puts 16 raw rows without stages into the prompt
        num_candidate_programs=CANDIDATES,
        num_threads=context.threads,
    )
    # Candidate -3 is the program as it is, and -2 has labelled demos only.
    best = search.compile(
        context.program,
        teacher=passing.teacher,
        trainset=passing.examples,
        valset=[*context.dev],
        restrict=[-1, *range(CANDIDATES)],
    )
    for candidate in best.candidate_programs:
        name = "unshuffled" if candidate["seed"] == -1 else f"shuffled {candidate['seed']}"
        context.candidate_scores[name] = [*zip(context.dev, map(float, candidate["subscores"]), strict=True)]
    return best


def knn(context: CompileContext) -> dspy.Module | None:
    """Take the demos that are most often among the nearest neighbours of dev's questions, the same for every question.

    DSPy's KNNFewShot bootstraps anew at every call, from the neighbours of its question: several calls an answer, and
    nothing that a file could hold. Demos that are near to many questions can be saved.
    """
    passing = context.passing.examples
    if not passing:
        return None
    question = context.task.question
    # Inputs are the question alone: with a whole history in them all examples are near.
    candidates = [example.with_inputs(question) for example in passing]
    neighbours = KNNFewShot(DEMOS, candidates, dspy.Embedder(_vectorizer(context), caching=False)).KNN
    positions = {id(example): position for position, example in enumerate(candidates)}
    votes = [0] * len(candidates)
    for example in context.dev if len(candidates) > 1 else ():
        for neighbour in neighbours(**{question: example[question]}):
            votes[positions[id(neighbour)]] += 1
    ranking = sorted(range(len(candidates)), key=lambda position: -votes[position])
    return _bootstrap(context, [passing[position] for position in ranking[:DEMOS]])


def _bootstrap(context: CompileContext, examples: list[dspy.Example]) -> dspy.Module:
    metric = context.score.optimizer_metric
    bootstrapping = BootstrapFewShot(metric=metric, max_bootstrapped_demos=DEMOS, max_labeled_demos=0)
    return bootstrapping.compile(context.program, teacher=context.passing.teacher, trainset=examples)


def _vectorizer(context: CompileContext) -> Callable[[list[str]], Any]:
    """The embedder of the program's own retriever if it has one, else bags of words."""
    if isinstance(context.program.retriever, Dense):
        return context.program.retriever.embedder
    from sklearn.feature_extraction.text import HashingVectorizer

    bags = HashingVectorizer(n_features=2**12, alternate_sign=False)
    return lambda texts: bags.transform(texts).toarray()
