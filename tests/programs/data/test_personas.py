"""The persona world: its truth is right by construction, and its people stay in their roles."""

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.lamp import METRICS
from programs.data.personas import MAKERS, citations, films, headlines, products, scholarly, tweets, words
from programs.data.personas.world import ROLES, draw, example, lamp_files
from programs.tasks import TASKS
from tests.lamp import load

PEOPLE = sorted(set(ROLES))
NUMBERS = st.integers(0, 999_999)
QUICK = settings(max_examples=60)
BOTH = pytest.mark.parametrize("task", MAKERS)


def case(task, persona):
    """The case of one persona, as `draw` makes it."""
    maker = MAKERS[task]
    return maker(persona, random.Random(f"{maker.__module__} {persona}"))


def mentions(text, word):
    return text.split().count(word)


@QUICK
@given(NUMBERS)
def test_films_answer_follows_from_history(persona):
    drawn = case("lamp2", persona)
    setting, figure = drawn.cues
    assert (setting.kind, figure.kind) == films.KINDS
    for cue in drawn.cues:
        assert mentions(drawn.question, cue.word) == 1
        assert cue.value in films.PLAUSIBLE[cue.kind][cue.word]
    with_setting, with_figure = (
        [item for item in drawn.items if mentions(item["description"], cue.word)] for cue in drawn.cues
    )
    assert (len(with_setting), len(with_figure)) == (1, 1), "one film shares the setting, one the figure"
    assert with_setting != with_figure

    # Who knows the table and the history: by what the persona goes, and how it reads that.
    def fits(kind):
        tags = films.PLAUSIBLE[kind]
        return all(
            any(item["tag"] in tags[word] for word in tags if mentions(item["description"], word))
            for item in drawn.items
        )

    assert fits(drawn.focus), "the tag fits what the persona goes by, in every film"
    decisive = with_setting if drawn.focus == "setting" else with_figure
    assert drawn.answer == decisive[0]["tag"]
    assert drawn.answer == next(cue.value for cue in drawn.cues if cue.kind == drawn.focus)


@QUICK
@given(NUMBERS)
def test_products_rating_follows_from_history(persona):
    drawn = case("lamp3", persona)
    assert len({cue.word for cue in drawn.cues}) == 2

    def sign_of(text, aspect):
        """What a text says of an aspect: 1 or -1."""
        after = text.split()[text.split().index(aspect) :]
        judged = next(word for word in after if word in {*products.PRAISE, *products.BLAME})
        return 1 if judged in products.PRAISE else -1

    rating = 3
    for cue in drawn.cues:
        assert mentions(drawn.question, cue.word) == 1
        (item,) = [item for item in drawn.items if mentions(item["text"], cue.word)]
        weight = sign_of(item["text"], cue.word) * (int(item["score"]) - 3)
        assert weight == int(cue.value) in products.WEIGHTS
        assert sign_of(drawn.question, cue.word) == cue.sign
        rating += cue.sign * weight
    assert drawn.answer == str(max(1, min(5, rating)))


@QUICK
@given(NUMBERS)
def test_citations_reference_follows_from_history(persona):
    drawn = case("lamp1", persona)
    paper, *references = drawn.question.splitlines()
    topic = paper.split()[0]
    (item,) = [item for item in drawn.items if mentions(item["title"], topic)]
    used = [reference.split()[0] for reference in references if mentions(item["title"], reference.split()[1])]
    assert used == [drawn.answer], "the method of the one paper on the topic is that of one reference"
    shown = [any(mentions(item["title"], reference.split()[1]) for item in drawn.items) for reference in references]
    assert shown == [True, True], "that a method occurs tells nothing"


@pytest.mark.parametrize(("task", "world"), [("lamp4", headlines.WORLD), ("lamp5", scholarly.WORLD)])
@QUICK
@given(persona=NUMBERS)
def test_titles_words_follow_from_history(task, world, persona):
    drawn = case(task, persona)
    patterns = [re.compile(re.sub(r"{(\w+)}", r"(?P<\1>\\S+)", frame.pattern)) for frame in world.frames]
    matches = [[pattern.fullmatch(item["title"]) for pattern in patterns] for item in drawn.items]
    (frame,) = {at for row in matches for at, match in enumerate(row) if match}
    subject, place, detail = drawn.question.split()[0], drawn.question.split()[2], drawn.cues[2].word
    about = [mentions(item[world.text], subject) for item in drawn.items]
    (item,) = [row[frame] for row, is_about in zip(matches, about, strict=True) if is_about]
    assert item["word"] in world.subjects[subject]
    names = {"word": item["word"], "name": place, "detail": detail}
    if task == "lamp5":
        names |= {"detail": drawn.question.split()[2], "name": drawn.question.split()[4]}
    assert drawn.answer == world.frames[frame].pattern.format(**names)


@QUICK
@given(NUMBERS)
def test_tweets_paraphrase_follows_from_history(persona):
    drawn = case("lamp7", persona)
    thing, where, _, mood = re.fullmatch(r"the (\S+) (\S+ \S+) (is) (\S+)", drawn.question).groups()
    (with_mood,) = [item["text"] for item in drawn.items if f" the {mood} " in item["text"]]
    (with_thing,) = [item["text"] for item in drawn.items if re.search(rf" the \S+ {thing} ", item["text"])]
    opening, closing = with_mood.partition(" the ")[0], " ".join(with_thing.split()[-2:])
    assert opening in tweets.PLAUSIBLE["mood"][mood] and closing in tweets.PLAUSIBLE["thing"][thing]
    assert drawn.answer == f"{opening} the {mood} {thing} {where} {closing}"


@BOTH
@QUICK
@given(persona=NUMBERS)
def test_persona_follows_from_its_number(task, persona):
    drawn = case(task, persona)
    assert drawn == case(task, persona)
    assert {drawn.answer, drawn.blind} <= set(TASKS[task].labels or (drawn.answer, drawn.blind))
    assert 6 <= len(drawn.items) <= 12
    assert [item["id"] for item in drawn.items] == [f"{persona}-{n}" for n in range(len(drawn.items))]
    texts = [item[TASKS[task].fields[0]] for item in drawn.items]
    assert len({*texts, drawn.question}) == len(texts) + 1


@BOTH
def test_cues_and_filler_share_no_word(task):
    """Else a cue would stand where nothing is meant by it."""
    deciding = {*products.ASPECTS, *products.PRAISE, *products.BLAME}
    if task == "lamp2":
        deciding = {word for kind in films.KINDS for word in films.PLAUSIBLE[kind]}
        assert len(deciding) == sum(map(len, films.PLAUSIBLE.values())), "no word is both setting and figure"
    if task == "lamp1":
        deciding = {*citations.PAPERS["methods"], *citations.PAPERS["topics"]}
        assert len(deciding) == len(citations.PAPERS["methods"]) + len(citations.PAPERS["topics"])
    if task in ("lamp4", "lamp5"):
        world = headlines.WORLD if task == "lamp4" else scholarly.WORLD
        called = [word for fitting in world.subjects.values() for word in fitting]
        deciding = {*world.subjects, *called, *world.details}
        assert len(deciding) == len(world.subjects) + len(called) + len(world.details), "no word means two things"
    if task == "lamp7":
        deciding = {word for kind in tweets.KINDS for word in tweets.PLAUSIBLE[kind]}
        phrases = [phrase for kind in tweets.KINDS for fitting in tweets.PLAUSIBLE[kind].values() for phrase in fitting]
        assert len(phrases) == len(set(phrases)) and not deciding & {
            word for phrase in phrases for word in phrase.split()
        }
        return  # its texts are not decorated
    rng = random.Random(0)
    decoration = {word for _ in range(3000) for word in words.aside(rng).split()}
    assert not deciding & decoration
    assert all(len(tags) == len(set(tags)) == 3 for kind in films.KINDS for tags in films.PLAUSIBLE[kind].values())
    tags = {tag for kind in films.KINDS for tags in films.PLAUSIBLE[kind].values() for tag in tags}
    assert tags == set(TASKS["lamp2"].labels)


def numbers(role, seed, count=40):
    return [drawn.persona for drawn in draw(lambda persona, rng: case("lamp3", persona), role, count, seed)]


def test_roles_never_overlap():
    drawn = {role: {n for seed in range(30) for n in numbers(role, seed)} for role in PEOPLE}
    for role, people in drawn.items():
        assert {ROLES[n % len(ROLES)] for n in people} == {role}
        assert len(people) > 30 * 40 * 0.9, "another seed draws others"
    assert sum(map(len, drawn.values())) == len(set().union(*drawn.values()))


@BOTH
def test_draw_is_repeatable_and_prefix_stable(task):
    maker = MAKERS[task]
    cases = draw(maker, "test", 30, seed=7)
    assert draw(maker, "test", 30, seed=7) == cases
    assert draw(maker, "test", 12, seed=7) == cases[:12]
    assert draw(maker, "test", 0) == []
    assert draw(maker, "test", 30, seed=8) != cases
    assert len({case.persona for case in cases}) == 30


@pytest.mark.parametrize(
    ("why", "role", "count", "named"),
    [
        (
            "a role that is none",
            "validation",
            1,
            "unknown role 'validation'; the roles are dev, held-out, pocket, test, train",
        ),
        ("a negative count", "dev", -1, "cannot draw -1 personas of role dev; give a number from 0 to 125000"),
        ("more than there are", "dev", 125_001, "from 0 to 125000"),
        ("more than the half that trains", "pocket", 500_001, "from 0 to 500000"),
    ],
)
def test_invalid_draws(why, role, count, named):
    with pytest.raises(ValueError, match=named):
        draw(films.case, role, count)


@BOTH
def test_blind_oracle_is_far_from_full_oracle(task):
    cases, metric = draw(MAKERS[task], "test", 400), METRICS[TASKS[task].metrics[0]]

    def score(answers):
        labels = TASKS[task].labels
        return (
            sum(metric.score(answer, truth.answer, labels) for answer, truth in zip(answers, cases, strict=True)) / 400
        )

    assert score([case.answer for case in cases]) == 1
    assert score([case.blind for case in cases]) < 0.9
    assert 0.05 < sum(case.blind == case.answer for case in cases) / 400 < 0.6
    if TASKS[task].labels:
        commonest = max(TASKS[task].labels, key=[case.answer for case in cases].count)
        assert score([commonest] * 400) <= score([case.blind for case in cases]) + 0.1, "knowing the world helps"


def known_to_files(example):
    """An example without what only the persona world knows."""
    return {key: value for key, value in example.toDict().items() if key not in ("blind", "supporting_items")}


@BOTH
def test_same_examples_from_lamp_files(task, tmp_path):
    cases = draw(MAKERS[task], "test", 25)
    questions, golds = lamp_files(TASKS[task], cases)
    (tmp_path / "dev_questions.json").write_text(json.dumps(questions))
    (tmp_path / "dev_outputs.json").write_text(json.dumps(golds))
    loaded = load(TASKS[task], tmp_path, "dev")
    direct = [example(TASKS[task], case) for case in cases]
    assert [row.toDict() for row in loaded] == [known_to_files(row) for row in direct]
    assert [set(row.inputs().keys()) for row in loaded] == [set(row.inputs().keys()) for row in direct]
    assert [row["input"] for row in questions] == [TASKS[task].wording(case.question) for case in cases]
    assert golds["task"] == TASKS[task].lamp


@BOTH
def test_inputs_do_not_leak_the_answer(task):
    (drawn,) = draw(MAKERS[task], "test", 1)
    row = example(TASKS[task], drawn)
    assert set(row.inputs().keys()) == {TASKS[task].question, TASKS[task].profile}
    assert row.blind == drawn.blind
    assert [item.label for item in row.profile] == [item.get(TASKS[task].label) for item in drawn.items]
