"""The template: a tree of stages, and what is no template."""

import pytest

from r2p_dspy import TEMPLATE, Evidence, Preference, Stage, Template, Verification


def stage(name, *stages):
    return Stage(name, "Do it.", None if stages else str, stages)


def test_default_template():
    tree = [(stage.name, path) for stage, path in TEMPLATE.walk()]
    assert tree == [
        ("analyse", ()),
        ("requirements", ("analyse",)),
        ("synthesise", ()),
        ("evidence", ("synthesise",)),
        ("preferences", ("synthesise",)),
        ("respond", ()),
        ("draft", ("respond",)),
        ("verification", ("respond",)),
    ]
    assert [stage.type for stage in TEMPLATE.leaves()] == [str, list[Evidence], list[Preference], str, Verification]
    assert all(stage.instruction.endswith(".") for stage, _ in TEMPLATE.walk())


@pytest.mark.parametrize(
    ("why", "stages", "leaves"),
    [
        ("one stage", (stage("a"),), ["a"]),
        ("order is that of writing", (stage("b"), stage("a")), ["b", "a"]),
        ("parents only group", (stage("a", stage("b"), stage("c")), stage("d")), ["b", "c", "d"]),
        ("three levels", (stage("a", stage("b", stage("c")), stage("d")),), ["c", "d"]),
    ],
)
def test_leaves_in_order(why, stages, leaves):
    template = Template(stages)
    assert [stage.name for stage in template.leaves()] == leaves
    names = [stage.name for stage, _ in template.walk()]
    for stage, path in template.walk():
        assert all(names.index(parent) < names.index(stage.name) for parent in path), "parents before children"


@pytest.mark.parametrize(
    ("why", "build", "named"),
    [
        ("two of one name", lambda: Template((stage("a"), stage("a"))), "named 'a'; rename"),
        ("at different levels", lambda: Template((stage("a", stage("b")), stage("b"))), "named 'b'"),
        ("a child named as its parent", lambda: Template((stage("a", stage("a")),)), "named 'a'"),
        ("a name with a space", lambda: stage("a b"), "identifier that starts with a letter, not 'a b'"),
        ("a name that is no field's", lambda: stage("_a"), "not '_a'"),
        ("no name", lambda: stage(""), "not ''"),
        ("neither type nor stages", lambda: Stage("a", "Do it."), "stage 'a' must have either a type or stages"),
        ("both", lambda: Stage("a", "Do it.", str, (stage("b"),)), "stage 'a' must have either"),
    ],
)
def test_invalid_templates(why, build, named):
    with pytest.raises(ValueError, match=named):
        build()


@pytest.mark.parametrize(
    ("why", "kind", "value", "read"),
    [
        ("an item's id as a number", Evidence, {"item": 3, "quote": "x"}, Evidence(item="3", quote="x")),
        (
            "ids as numbers",
            Preference,
            {"statement": "s", "items": [1, "2"]},
            Preference(statement="s", items=["1", "2"]),
        ),
        (
            "a rating as a number",
            Preference,
            {"statement": "s", "items": [], "label": 4},
            Preference(statement="s", items=[], label="4"),
        ),
    ],
)
def test_numbers_become_text(why, kind, value, read):
    assert kind.model_validate(value) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *((written, "1") for written in ("1", " 1\n", "1.", "[1]", "#1", '"1"', "“1”", "item 1", "Item #1:", "１")),
        *((written, written) for written in ("m7", "-1", "1.0", "1 2", "1, 2", "007", "the first", "item", "")),
    ],
)
def test_the_number_of_an_item(written, read):
    assert Evidence(item=written, quote="x").item == read
    assert Preference(statement="s", items=[written]).items == [read]


@pytest.mark.parametrize("written", ["", " ", "None", "null.", '"null"', "NULL", None])
def test_no_label(written):
    assert Preference(statement="s", items=[], label=written).label is None
