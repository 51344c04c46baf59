"""The built-in checks, one by one, and what becomes of a check that fails itself."""

import copy
import functools
import gc
import operator
import pickle

import dspy
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from r2p_dspy import (
    BUILT_IN,
    Assert,
    CheckError,
    ConfigError,
    Enforce,
    Evidence,
    Inputs,
    Outcome,
    Preference,
    Profile,
    Score,
    Suggest,
    Verification,
    unshadowed,
)
from r2p_dspy.checks import approved, backed, cited, combined, feedback, judge, labelled, parsed, quoted, stages
from r2p_dspy.values.folding import fold
from tests.film import HISTORY


class Short:
    def __call__(self, inputs, outcome):
        return True


async def late(inputs, outcome, extra=None):
    return True


ITEMS = Profile.of(HISTORY).local()
ORDER = ("requirements", "evidence", "preferences", "draft", "verification")
QUICK = settings(max_examples=80)


def inputs(items=ITEMS):
    return Inputs(fields={"film": "a film", "profile": items}, items=items)


def outcome(tag="romance", order=ORDER, error=None, **changes):
    """A right outcome, changed; a stage given as `...` is not in the template."""
    right = {
        "requirements": "a tag",
        "evidence": [Evidence(item="1", quote="a lighthouse")],
        "preferences": [Preference(statement="likes rain", items=["1"], label="romance")],
        "draft": "romance",
        "verification": Verification(approved=True, reason="item 1"),
    }
    held = {name: value for name, value in {**right, **changes}.items() if value is not ...}
    return Outcome(fields={"tag": tag}, stages=held, order=order, answers=("tag",), error=error)


def cites(*pairs):
    return [Evidence(item=item, quote=quote) for item, quote in pairs]


def prefers(*items, label=None):
    return [Preference(statement="likes rain", items=list(items), label=label)]


NONE = Profile()
CASES = [
    # check, why, outcome, items, what the message must hold, or None where the check holds
    (parsed, "read", outcome(), ITEMS, None),
    (parsed, "unread", outcome(error="the field tag is missing."), ITEMS, "the field tag is missing"),
    (stages, "all filled, in order", outcome(), ITEMS, None),
    (stages, "an empty list is filled", outcome(evidence=[], preferences=[]), NONE, None),
    (stages, "a blank text", outcome(requirements=" \n"), ITEMS, "Fill the stage requirements"),
    (stages, "a missing value", outcome(verification=None), ITEMS, "Fill the stage verification"),
    (
        stages,
        "out of order",
        outcome(order=("draft", *ORDER[:3], "verification")),
        ITEMS,
        "in this order: requirements",
    ),
    (stages, "an order that nobody knows", outcome(order=()), ITEMS, None),
    (stages, "a placeholder", outcome(requirements=" {requirements}"), ITEMS, "Write the requirements itself; {requi"),
    (stages, "the answer's", outcome(tag="{tag}"), ITEMS, "{tag} only stands for it in the prompt."),
    (stages, "another's placeholder", outcome(requirements="{draft}"), ITEMS, None),
    (cited, "one of the items", outcome(), ITEMS, None),
    (cited, "both", outcome(evidence=cites(("2", "a"), ("1", "a"))), ITEMS, None),
    (cited, "none", outcome(evidence=[], preferences=[]), ITEMS, "Cite at least one item as evidence, from 1, 2."),
    (cited, "none of none", outcome(evidence=[], preferences=[]), NONE, None),
    (cited, "an item of an empty history", outcome(), NONE, "There is no item 1; cite only nothing"),
    (cited, "an item that is not there", outcome(evidence=cites(("3", "a"))), ITEMS, "There is no item 3"),
    (cited, "the item's own id", outcome(evidence=cites(("m7", "a"))), ITEMS, "no item m7; cite only 1, 2"),
    (cited, "a preference's item", outcome(preferences=prefers("9")), ITEMS, "There is no item 9"),
    (cited, "a template without evidence", outcome(evidence=..., preferences=...), ITEMS, None),
    (cited, "evidence that means something else", outcome(evidence="none", preferences=...), ITEMS, None),
    (quoted, "word for word", outcome(evidence=cites(("1", "in the rain"))), ITEMS, None),
    (quoted, "the whole text", outcome(evidence=cites(("1", "a lighthouse in the rain"))), ITEMS, None),
    (quoted, "white space aside", outcome(evidence=cites(("1", " a  lighthouse\nin "))), ITEMS, None),
    (quoted, "another case and marks", outcome(evidence=cites(("1", "“A Lighthouse…”"))), ITEMS, None),
    (quoted, "half a word of each", outcome(evidence=cites(("1", "house in"))), ITEMS, None),
    (quoted, "a skipped word", outcome(evidence=cites(("1", "a lighthouse … the rain"))), ITEMS, "does not stand in"),
    (quoted, "an ellipsis alone", outcome(evidence=cites(("1", "…"))), ITEMS, "does not stand in item 1"),
    (
        quoted,
        "another word",
        outcome(evidence=cites(("1", "The lighthouse"))),
        ITEMS,
        '"The lighthouse" does not stand',
    ),
    (quoted, "another item's words", outcome(evidence=cites(("2", "a lighthouse"))), ITEMS, "does not stand in item 2"),
    (quoted, "the label is no text", outcome(evidence=cites(("1", "romance"))), ITEMS, '"romance" does not stand'),
    (quoted, "nothing", outcome(evidence=cites(("1", " "))), ITEMS, "copy it word for word"),
    (quoted, "an unknown item is another check's", outcome(evidence=cites(("3", "a"))), ITEMS, None),
    (quoted, "the second of two", outcome(evidence=cites(("1", "a"), ("2", "xyz"))), ITEMS, '"xyz"'),
    (quoted, "a template without evidence", outcome(evidence=...), ITEMS, None),
    (backed, "by the evidence", outcome(), ITEMS, None),
    (
        backed,
        "by another item",
        outcome(preferences=prefers("2")),
        ITEMS,
        '"likes rain" must name items of the evidence',
    ),
    (backed, "by one of two", outcome(preferences=prefers("1", "2")), ITEMS, "must name items of the evidence"),
    (backed, "by nothing", outcome(preferences=prefers()), ITEMS, "must name items of the evidence"),
    (backed, "no preference", outcome(preferences=[]), ITEMS, None),
    (backed, "a template without evidence", outcome(evidence=...), ITEMS, None),
    (labelled, "as its item", outcome(), ITEMS, None),
    *(
        (labelled, f"as {label!r}", outcome(preferences=prefers("1", label=label)), ITEMS, None)
        for label in ("romance ", "romance.", '"romance"', "Romance", "ｒｏｍａｎｃｅ")
    ),
    (labelled, "more than its item's", outcome(preferences=prefers("1", label="romances")), ITEMS, "not romances"),
    (labelled, "no label", outcome(preferences=prefers("1")), ITEMS, None),
    (labelled, "another", outcome(preferences=prefers("1", label="fantasy")), ITEMS, "item 1 is romance, not fantasy"),
    (
        labelled,
        "that of one of two",
        outcome(preferences=prefers("1", "2", label="romance")),
        ITEMS,
        "item 2 is fantasy",
    ),
    (labelled, "an unknown item is another check's", outcome(preferences=prefers("9", label="x")), ITEMS, None),
    (
        labelled,
        "items without labels",
        outcome(preferences=prefers("1", label="x")),
        Profile.of([{"id": "1", "text": "x"}]),
        "Item 1 has no label",
    ),
    (
        labelled,
        "a number in another form",
        outcome(preferences=prefers("1", label=4.0)),
        Profile.of([{"id": "1", "text": "x", "label": 4}]),
        None,
    ),
    (approved, "the answer is the draft", outcome(), ITEMS, None),
    (approved, "white space aside", outcome(tag=" romance\n"), ITEMS, None),
    (approved, "another answer", outcome(tag="fantasy"), ITEMS, "The tag must be the approved draft, romance."),
    (
        approved,
        "a draft that was rejected",
        outcome(verification=Verification(approved=False, reason="no")),
        ITEMS,
        "The verification rejects the draft",
    ),
    (approved, "a template without verification", outcome(verification=...), ITEMS, None),
    (approved, "a draft that is no text", outcome(draft=4, tag=4), ITEMS, None),
]


@pytest.mark.parametrize(
    ("check", "why", "given", "items", "named"), CASES, ids=[f"{row[0].__name__}: {row[1]}" for row in CASES]
)
def test_built_in_check(check, why, given, items, named):
    verdict = Assert(check)(inputs(items), given)
    assert verdict.ok == (named is None)
    assert (named or "") in verdict.message
    assert verdict.message.splitlines() == ([verdict.message] if named else [])
    read_back = Outcome.from_json(given.to_json())
    assert Assert(check)(inputs(items), read_back) == verdict, "the same, where the outcome came from JSON"


def test_every_built_in_check_has_cases():
    assert {row[0] for row in CASES} == {check.function for check in BUILT_IN}
    assert [check.name for check in BUILT_IN] == [
        "parsed", "stages", "cited", "quoted", "backed", "labelled", "approved",
    ]  # fmt: skip
    assert [check.kind for check in BUILT_IN] == ["assert"] * 6 + ["suggest"]
    assert all(verdict.ok and not verdict.message for verdict in judge(BUILT_IN, inputs(), outcome()))


WORDS = st.lists(st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=6), min_size=1, max_size=12)


@QUICK
@given(WORDS, st.data())
def test_quote_from_the_text_passes(words, data):
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    items = Profile.of([{"id": "x", "text": " ".join(words)}]).local()
    quote = " ".join(items[0].text.split()[start:end])
    assume(any(char.isalnum() for char in fold(quote)))
    assert Assert(quoted)(inputs(items), outcome(evidence=cites(("1", quote)))).ok


@QUICK
@given(WORDS, WORDS)
def test_quote_not_in_the_text_fails(words, others):
    items = Profile.of([{"id": "x", "text": " ".join(words)}]).local()
    quote = " ".join(others)
    assume(fold(quote).strip(" .,;:()[]*_-'") not in fold(items[0].text))
    assert not Assert(quoted)(inputs(items), outcome(evidence=cites(("1", quote)))).ok


@pytest.mark.parametrize(
    ("why", "answer", "ok", "message"),
    [
        ("true", True, True, ""),
        ("false", False, False, "The answer does not pass the check 'mine'."),
        ("with a message", (False, "Do this."), False, "Do this."),
        ("a message that is not needed", (True, "Do this."), True, ""),
        ("an empty message", (False, ""), False, "The answer does not pass the check 'mine'."),
        ("numpy's true", np.bool_(True), True, ""),
        ("numpy's false", (np.bool_(False), "Do this."), False, "Do this."),
    ],
)
@pytest.mark.parametrize("force", [Assert, Suggest])
def test_accepted_results(force, why, answer, ok, message):
    verdict = force(lambda inputs, outcome: answer, name="mine")(inputs(), outcome())
    assert (verdict.ok, verdict.message, verdict.kind) == (ok, message, force.__name__.lower())


@pytest.mark.parametrize(
    ("why", "function", "named"),
    [
        ("an error", lambda inputs, outcome: 1 / 0, "'mine' failed with ZeroDivisionError: division by zero"),
        ("no such field", lambda inputs, outcome: outcome.headline, "'mine' failed with AttributeError"),
        ("three things", lambda inputs, outcome: (True, "a", "b"), "'mine' returned (bool, str, str)"),
        ("nothing", lambda inputs, outcome: None, "'mine' returned None; let it return a bool, or (bool, message)"),
        ("a text", lambda inputs, outcome: "no", "'mine' returned str;"),
        ("a list of faults", lambda inputs, outcome: ["too long"], "'mine' returned list;"),
        ("a score", lambda inputs, outcome: 0.1, "'mine' returned float;"),
        ("a score of this library", lambda inputs, outcome: Score(0.1), "'mine' returned Score;"),
        ("a number", lambda inputs, outcome: 1, "'mine' returned int;"),
        ("a prediction", lambda inputs, outcome: dspy.Prediction(score=0), "'mine' returned Prediction;"),
        ("a score and a message", lambda inputs, outcome: (0.1, "Do this."), "'mine' returned (float, str);"),
        ("a message that is none", lambda inputs, outcome: (False, None), "'mine' returned (bool, NoneType);"),
        ("a message of several", lambda inputs, outcome: (False, ["a"]), "'mine' returned (bool, list);"),
        ("a list of both", lambda inputs, outcome: [False, "Do this."], "'mine' returned list;"),
        ("numpy's array", lambda inputs, outcome: np.array([True]), "'mine' returned ndarray;"),
        ("a generator", lambda inputs, outcome: (yield), "'mine' returned generator;"),
        ("an async function within", lambda inputs, outcome: late(inputs, outcome), "'mine' returned coroutine;"),
        ("a verdict", lambda inputs, outcome: BUILT_IN[0](inputs, outcome), "'mine' returned Verdict;"),
    ],
)
def test_check_error_names_the_check(why, function, named, recwarn):
    with pytest.raises(CheckError) as caught:
        Assert(function, name="mine")(inputs(), outcome())
    assert named in str(caught.value) and len(str(caught.value).splitlines()) == 1
    gc.collect()  # what other tests left unclosed is warned of here too
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


class Late:
    async def __call__(self, inputs, outcome):
        return True


@pytest.mark.parametrize(
    ("why", "function", "named"),
    [
        ("async", late, "check 'mine' is async; make it a plain function"),
        ("an object with an async call", Late(), "is async"),
        ("fixed arguments of an async one", functools.partial(late, extra=1), "is async"),
        ("fixed arguments of an async object", functools.partial(Late()), "is async"),
        ("one argument", lambda outcome: True, "check 'mine' takes (outcome); let it take (inputs, outcome)"),
        ("three arguments", lambda inputs, outcome, more: True, "takes (inputs, outcome, more)"),
        ("arguments by name", lambda *, inputs, outcome: True, "takes (*, inputs, outcome)"),
        ("an object with another call", Short, "takes (); let it take (inputs, outcome)"),
        ("a built-in function", len, "takes (obj, /)"),
        ("no function", "comedy", "is no function but str; write a function of (inputs, outcome)"),
        ("a check", BUILT_IN[3], "wraps a check; wrap its function instead, as in Suggest(checks.quoted)"),
    ],
)
@pytest.mark.parametrize("force", [Assert, Suggest])
def test_unusable_function_is_refused_at_once(force, why, function, named):
    with pytest.raises(ConfigError) as caught:
        force(function, name="mine")
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("why", "function"),
    [
        ("more arguments with defaults", lambda inputs, outcome, most=3: True),
        ("any arguments", lambda *both: True),
        ("an object", Short()),
        ("a method", Short().__call__),
        ("fixed arguments", functools.partial(lambda most, inputs, outcome: True, 3)),
        ("a function that tells no arguments", operator.is_not),
    ],
)
def test_usable_functions(why, function):
    assert Assert(function)(inputs(), outcome()).ok


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (cited, "cited"),
        (Short(), "Short"),
        (Short().__call__, "__call__"),
        (functools.partial(cited), "cited"),
        (functools.partial(Short()), "Short"),
        (lambda inputs, outcome: True, "<lambda>"),
    ],
)
def test_default_name(function, name):
    assert Suggest(function).name == name
    assert Suggest(function, name="mine").name == "mine"


class TestReplacement:
    def test_by_name_and_in_place(self):
        mine = Suggest(lambda inputs, outcome: True, name="mine")
        checks = combined(BUILT_IN, [mine, Suggest(quoted), Assert(approved, max_backtracks=0)])
        assert [(check.name, check.kind, check.after) for check in checks] == [
            ("parsed", "assert", None),
            ("stages", "assert", None),
            ("cited", "assert", "evidence"),
            ("quoted", "suggest", "evidence"),
            ("backed", "assert", "preferences"),
            ("labelled", "assert", "preferences"),
            ("approved", "assert", None),
            ("mine", "suggest", None),
        ]
        assert checks[6].max_backtracks == 0

    def test_another_function_and_another_stage(self):
        mine = Assert(lambda inputs, outcome: True, name="quoted", after="verification")
        assert combined(BUILT_IN, [mine])[3] == mine

    def test_built_in_checks_given_again_are_there_once(self):
        assert combined(BUILT_IN, BUILT_IN) == BUILT_IN

    @pytest.mark.parametrize("names", [("<lambda>", None), ("mine", "mine"), ("quoted", "quoted")])
    def test_two_of_one_name(self, names):
        checks = [Assert(lambda inputs, outcome: True, name=name) for name in names]
        with pytest.raises(ConfigError, match=f"two checks are named {names[0]!r}; give one another name"):
            combined(BUILT_IN, checks)
        with pytest.raises(ConfigError, match="two checks are named"):
            Enforce(dspy.Predict("film -> tag"), checks)


def test_unreadable_outcome_runs_parsed_alone():
    calls = []
    mine = Suggest(lambda inputs, outcome: bool(calls.append(1)), name="mine")
    verdicts = judge((*BUILT_IN, mine), inputs(), Outcome(error="the field tag is missing."))
    assert calls == []
    assert not any(verdict.ok for verdict in verdicts)
    assert feedback(verdicts) == "Write every field, each of its type: the field tag is missing."


def test_feedback_lines():
    wrong = outcome(evidence=cites(("1", "xyz")), preferences=prefers("2"), tag="fantasy")
    lines = feedback(judge(BUILT_IN, inputs(), wrong)).splitlines()
    assert [line.split()[1] for line in lines] == ["quote", "preference", "tag"]
    assert feedback(judge(BUILT_IN, inputs(), outcome())) == ""


def test_fields_and_stages_are_attributes():
    seen, got = inputs(), outcome()
    assert (seen.film, seen.items[0].id) == ("a film", "1")
    assert (got.tag, got.draft, got.evidence[0].item) == ("romance", "romance", "1")
    with pytest.raises(AttributeError, match="^there is no input 'plot'; the inputs are film, profile$"):
        seen.plot
    named = "^the outcome has no field and no stage 'headline'; its fields are tag, its stages requirements, evidence, "
    with pytest.raises(AttributeError, match=named):
        got.headline
    both = Outcome(fields={"draft": "the user's"}, stages={"draft": "the stage's"})
    assert (both.draft, both.stages["draft"]) == ("the user's", "the stage's")


NAMES = ["fields", "stages", "order", "answers", "predictors", "error", "copy", "json", "items", "labels", "to_json"]


@pytest.mark.parametrize("name", NAMES)
def test_users_fields_win(name):
    items = Profile.of(str(ITEMS))  # as JSON keeps them
    seen = Inputs(fields={name: "mine"}, items=items)
    got = Outcome(fields={name: "mine"}, stages={"draft": "mine"}, answers=(name,))
    assert getattr(seen, name) == getattr(got, name) == "mine"
    assert unshadowed(seen).items == items
    assert (unshadowed(got).fields, unshadowed(got).error) == ({name: "mine"}, None)
    assert [verdict.check for verdict in judge(BUILT_IN, seen, got) if not verdict.ok] == []
    for record in (seen, got):
        assert copy.deepcopy(record) == copy.copy(record) == pickle.loads(pickle.dumps(record)) == record
        assert type(record).from_json(type(record).to_json(record)) == record


FIELDS = st.dictionaries(
    st.text(max_size=8), st.text(max_size=8) | st.integers() | st.lists(st.text(max_size=4)) | st.none()
)


@QUICK
@given(FIELDS, FIELDS, st.none() | st.text(max_size=8))
def test_inputs_through_json(values, held, error):
    seen = Inputs(fields=values, items=ITEMS, labels=("a", "b"))
    back = unshadowed(Inputs.from_json(Inputs.to_json(seen)))
    assert (back.fields, str(back.items), back.labels) == (values, str(ITEMS), ("a", "b"))
    got = Outcome(fields=values, stages=held, order=tuple(held), answers=tuple(values), error=error)
    assert Outcome.from_json(Outcome.to_json(got)) == got


def test_typed_outcome_through_json():
    read_back = Outcome.from_json(outcome().to_json())
    assert read_back.stages["evidence"] == [{"item": "1", "quote": "a lighthouse"}]
    assert read_back.stages["verification"] == {"approved": True, "reason": "item 1"}


@pytest.mark.parametrize(
    ("value", "draft", "same"),
    [
        (True, "true", True),
        (True, "false", False),
        (4.0, "4", True),
        (4, "5", False),
        (["romance", "sad"], '["romance", "sad"]', True),
        (["romance"], '["sad"]', False),
        (Evidence(item="1", quote="x"), '{"item": "1", "quote": "x"}', True),
        (4, "four of five", True),
    ],
)
def test_typed_answer_and_draft(value, draft, same):
    stages = {"draft": draft, "verification": {"approved": True, "reason": ""}}
    assert approved(Inputs(fields={}), Outcome(fields={"a": value}, stages=stages, answers=("a",)))[0] == same


def test_rejected_draft_with_several_answers():
    stages = {"draft": "x", "verification": {"approved": False, "reason": ""}}
    outcome = Outcome(fields={"a": "x", "b": "y"}, stages=stages, answers=("a", "b"))
    assert not approved(Inputs(fields={}), outcome)[0]


def test_messages_are_shortened():
    stages = {"evidence": [{"item": "1", "quote": "lighthouse " * 4000}]}
    items = Profile.of([{"id": "1", "text": "a lighthouse"}])
    ok, message = quoted(Inputs(fields={}, items=items), Outcome(stages=stages))
    assert not ok and len(message) < 400


def test_labels_that_the_answer_tells_apart():
    items = Profile.of([{"id": "1", "text": "x", "label": "A."}])
    given = outcome(preferences=prefers("1", label="A"))
    assert labelled(Inputs(fields={}, items=items), given)[0]
    ok, message = labelled(Inputs(fields={}, items=items, labels=("A", "A.")), given)
    assert (ok, message) == (False, "The label of item 1 is A., not A.")


@pytest.mark.parametrize("label", ["", "None", "null", None])
def test_null_labels(label):
    stages = {"preferences": [{"statement": "x", "items": ["1"], "label": label}]}
    items = Profile.of([{"id": "1", "text": "a lighthouse"}])
    assert labelled(Inputs(fields={}, items=items), Outcome(stages=stages))[0]


def test_label_of_an_unlabelled_item():
    stages = {"preferences": [{"statement": "x", "items": ["1"], "label": "sad"}]}
    items = Profile.of([{"id": "1", "text": "a lighthouse"}])
    ok, message = labelled(Inputs(fields={}, items=items), Outcome(stages=stages))
    assert not ok and message == "Item 1 has no label; leave the preference's label null."
