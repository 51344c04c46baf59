"""Task 1's world: which of two references an author cites.

An author works on each topic with one method, and cites papers about that method. The two references are about two
methods that the author uses, one of them for the paper's topic. The answer takes the two items that show these methods,
and which of them shares the paper's topic. Official retrieval matches the references alone.
"""

import random

from programs.data.personas.words import VOCABULARY, aside, name
from programs.data.personas.world import Case, Cue

PAPERS = VOCABULARY["papers"]
_BY = ("with", "by", "through", "using", "from")
_FOR = ("for", "of", "in", "after", "beyond")


def title(topic: str, method: str, rng: random.Random) -> str:
    """The title of a paper on a topic that uses a method."""
    return f"{topic} {rng.choice(_BY)} {method} {rng.choice(_FOR)} {name(rng)}"


def case(persona: int, rng: random.Random) -> Case:
    """The citation question of one persona (see the module's docstring)."""
    topics, methods = [*PAPERS["topics"]], [*PAPERS["methods"]]
    rng.shuffle(topics)
    rng.shuffle(methods)
    papers = [*zip(topics, methods, strict=True)][: rng.randint(7, 12)]
    (topic, cited), (_, other) = papers[:2]
    rng.shuffle(papers)
    items = [
        {"id": f"{persona}-{index}", "title": title(*paper, rng), "abstract": f"the author {aside(rng)}"}
        for index, paper in enumerate(papers)
    ]
    # The paper's own title names no method; else the history would not be needed.
    paper = f"{topic} {rng.choice(_FOR)} {name(rng)}"
    references = [cited, other]
    rng.shuffle(references)
    first, second = (f"{method} {rng.choice(_FOR)} {name(rng)}" for method in references)
    answer = f"[{references.index(cited) + 1}]"
    cues = (Cue("topic", topic, cited), *(Cue("method", method, f"[{at}]") for at, method in enumerate(references, 1)))
    return Case(persona, f"{paper}\n[1] {first}\n[2] {second}", items, answer, "[1]", cues)
