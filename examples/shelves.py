"""R2P inside another DSPy program: put new films on a user's own shelves, and say which old films each was put by.

Run it with `python -m examples.shelves`; it uses the pocket model and three users of the (synthetic) persona world.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import dspy

import programs
from programs.data.personas import films
from programs.data.personas.world import draw, example
from programs.tasks import TASKS
from r2p_dspy import Profile, connect, optimizing


class Shelves(dspy.Module):
    """Sorts films by the tag that the user would give them."""

    def __init__(self) -> None:
        super().__init__()
        self.tag = programs.load("lamp2")

    def forward(self, films: Sequence[str], profile: Profile) -> dspy.Prediction:
        shelves: dict[str, list[dict[str, Any]]] = defaultdict(list)
        attempts = []
        for film in films:
            answer = self.tag(description=film, profile=profile)
            because = [item.fields["description"] for item in answer.reasoning.cited]
            shelves[answer.tag].append({"film": film, "because": because})
            attempts += answer.attempts
        # Passed on, so that a `Composite` that scores this program sees which checks failed inside it.
        return dspy.Prediction(shelves=dict(shelves), attempts=attempts)


def main() -> None:
    dspy.configure(lm=connect("pocket"))
    cases = [example(TASKS["lamp2"], case) for case in draw(films.case, "test", 3)]
    sort = Shelves()
    with optimizing():  # an answer that breaks a check is shown rather than raised
        for number, case in enumerate(cases, start=1):
            print(f"user {number}")
            for tag, found in sort(films=[case.description], profile=case.profile).shelves.items():
                for one in found:
                    print(f"  [{tag}] {one['film']}")
                    for film in one["because"]:
                        print(f"      because of: {film}")


if __name__ == "__main__":
    main()
