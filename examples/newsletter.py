"""A newsletter in its editor's own manner: R2P writes each headline, the program around it sets the page.

Headlines that a check still objects to are not printed but held back for the editor, with the reason.

    python examples/newsletter.py                             # the pocket model, offline
    python examples/newsletter.py --model openai/gpt-4o-mini
"""

import argparse

import dspy

from r2p_dspy import BM25, R2P, Profile, Suggest, connect, optimizing


class Headline(dspy.Signature):
    """Write the headline that this author would write for the article."""

    article: str = dspy.InputField(desc="the article that needs a headline")
    profile: Profile = dspy.InputField(desc="articles and headlines of the same author")
    headline: str = dspy.OutputField(desc="the headline that this author would write")


def from_the_article(inputs, outcome):
    """A headline may only name what its article names."""
    invented = [word for word in outcome.headline.split() if word.istitle() and word not in inputs.article]
    return not invented, f"Name only what the article names, not {', '.join(invented)}."


class Newsletter(dspy.Module):
    """Writes a newsletter from articles and the editor's earlier work."""

    def __init__(self):
        super().__init__()
        self.write = R2P(Headline, retriever=BM25(k=4), checks=[Suggest(from_the_article)])

    def forward(self, articles: list[str], profile: Profile) -> dspy.Prediction:
        side_by_side = dspy.Parallel(num_threads=8, max_errors=1, disable_progress_bar=True)
        with optimizing():  # a headline that breaks an assert is held back, too, and does not stop the others
            answers = side_by_side([(self.write, {"article": one, "profile": profile}) for one in articles])
        printed, held = [], []
        for article, answer in zip(articles, answers, strict=True):
            if answer.violations:
                held.append((article, answer.violations[0].message))
            else:
                printed.append((answer.headline, article, [item.fields["title"] for item in answer.reasoning.cited]))
        # Passed on, so that a `Composite` that scores this program sees which checks failed inside it.
        attempts = [attempt for answer in answers for attempt in answer.attempts]
        return dspy.Prediction(printed=printed, held=held, attempts=attempts)


# In the language of the persona world, which is all that the pocket model knows.
WRITTEN = {
    "Orden and judge after the gala": "festival in Orden where judge measures Loranfield with the carpet",
    "Garormond and scholar after the vows": "wedding across Garormond though scholar sells Valensey with the map",
    "Vermond and miner after the ice": "frost across Vermond where miner borrows Maralvale with the photograph",
    "Ranrow and coach after the shock": "quake outside Ranrow though coach buries Normere with the ticket",
    "Belonfield and hunter after the heist": "robbery near Belonfield while hunter reads Dalfield with the anchor",
    "Branonsey and clerk after the affair": "scandal in Branonsey where clerk opens Eloford with the feather",
}
PROFILE = Profile.of([{"id": f"a{n}", "title": title, "text": text} for n, (title, text) in enumerate(WRITTEN.items())])
ARTICLES = [
    "wedding near Valster as chef prints Salmore with the letter",
    "robbery in Dalholt where priest hides Winlow with the tent",
    "frost outside Carerwick though banker steals Barowick with the key",
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="pocket", help="as connect() takes it")
    dspy.configure(lm=connect(parser.parse_args().model))
    letter = Newsletter()(articles=ARTICLES, profile=PROFILE)
    for headline, article, because in letter.printed:
        print(f"{headline}\n    {article}\n    as in: {'; '.join(because)}\n")
    for article, reason in letter.held:
        print(f"held back: {article}\n    {reason}\n")


if __name__ == "__main__":
    main()
