"""The template inside running text: written, and read back from whatever a model makes of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2p_dspy import TEMPLATE, Evidence, Preference, Stage, Template, Verification
from r2p_dspy.prompting.tags import opening, read, render, sections, shape, skeleton, thought

STEPS = Template(
    (
        Stage("look", "Look.", stages=(Stage("near", "What is near.", str), Stage("far", "What is far.", str))),
        Stage("say", "Say it.", list[str]),
    )
)
GOOD = "<look>\n<near>\na tree\n</near>\n<far>\na hill\n</far>\n</look>\n<say>\n[]\n</say>"
STAGES = {"near": "a tree", "far": "a hill", "say": "[]"}


@pytest.mark.parametrize(
    ("why", "text"),
    [
        ("as it should be", GOOD),
        ("in think tags", f"<think>\n{GOOD}\n</think>\n\nthe answer"),
        ("the first prefilled by the chat template", f"{GOOD}\n</think>\n\nthe answer"),
        ("the last not yet written", f"<think>\n{GOOD}"),
        ("after the thinking, in the answer", f"<think>Well.</think>\n{GOOD}"),
        ("stray text around", f"Well. {GOOD.replace('</near>', '</near> Good.')} So that is it."),
        ("without groups", GOOD.replace("<look>\n", "").replace("</look>\n", "")),
        ("bold tags", GOOD.replace("<near>", "**<near>**").replace("</near>", "**</near>**")),
        ("tags as headings", GOOD.replace("<near>", "### <near>")),
        ("tags as code", GOOD.replace("<near>", "`<near>`").replace("</near>", "`</near>`")),
        ("upper case and blanks", GOOD.replace("<near>", "<NEAR >").replace("</near>", "</Near >")),
        ("fenced", GOOD.replace("[]", "```json\n[]\n```")),
        ("on one line", GOOD.replace("\n", "")),
    ],
)
def test_read_whole_template(why, text):
    assert [*read(STEPS, text).items()] == [*STAGES.items()]
    parts = sections(STEPS, thought(STEPS, text))
    assert [(part.name, part.closed) for part in parts] == [(name, True) for name in STAGES]


@pytest.mark.parametrize(
    ("why", "text", "read_as", "unclosed"),
    [
        ("nothing", "", [], []),
        ("a stage left out", GOOD.replace("<far>\na hill\n</far>\n", ""), ["near", "say"], []),
        ("nothing in it", GOOD.replace("a hill", " "), ["near", "say"], []),
        ("an empty tag", GOOD.replace("<far>\na hill\n</far>", "<far/>"), ["near", "say"], []),
        ("twice", GOOD + "<far>a hill</far>", ["near", "say", "far"], []),
        ("in another order", "<say>[]</say><near>a tree</near><far>a hill</far>", ["say", "near", "far"], []),
        ("cut off in the last", GOOD.removesuffix("\n</say>"), ["near", "far", "say"], ["say"]),
        ("closed by the next", GOOD.replace("</near>", ""), ["near", "far", "say"], ["near"]),
        ("closed by its group", GOOD.replace("</far>", ""), ["near", "far", "say"], ["far"]),
        ("cut off inside a tag", GOOD.removesuffix("ay>"), ["near", "far", "say"], ["say"]),
    ],
)
def test_read_malformed_text(why, text, read_as, unclosed):
    assert [*read(STEPS, text)] == read_as
    assert [section.name for section in sections(STEPS, text) if not section.closed] == unclosed


def test_last_text_of_a_stage_counts():
    assert read(STEPS, GOOD + "<say>[1]</say>")["say"] == "[1]"
    assert read(STEPS, GOOD + "<say></say>")["say"] == "[]"


def test_unknown_tags_are_text():
    assert read(STEPS, "<near>a <b>big</b> tree</near>") == {"near": "a <b>big</b> tree"}


def test_render_then_read():
    stages = {
        "requirements": "a tag for the film",
        "evidence": [Evidence(item="1", quote='the "lighthouse"')],
        "preferences": [Preference(statement="sad < happy", items=["1"], label="romance")],
        "draft": "romance",
        "verification": Verification(approved=True, reason="item 1 agrees"),
    }
    text = f"<think>\n{render(TEMPLATE, stages)}\n</think>\n\nromance"
    texts = read(TEMPLATE, text)
    assert [(part.name, part.closed) for part in sections(TEMPLATE, text)] == [(name, True) for name in stages]
    assert texts["draft"] == "romance"
    assert [Evidence(**row) for row in json.loads(texts["evidence"])] == stages["evidence"]
    assert Verification.model_validate_json(texts["verification"]) == stages["verification"]


def test_skeleton_and_shapes():
    assert skeleton(STEPS) == (
        "<look>\n<near>\nWhat is near.\n</near>\n<far>\nWhat is far.\n</far>\n</look>\n"
        '<say>\nSay it. As JSON: ["text"]\n</say>'
    )
    assert shape(list[Preference]) == '[{"statement": "text", "items": ["text"], "label": "text" or null}]'


@pytest.mark.parametrize(
    ("text", "name", "opened"),
    [
        ("", "near", "<look>\n<near>\n"),
        ("<look>\n<near>\na\n</near>\n", "far", "<far>\n"),
        ("<look>\n<near>\na\n</near>\n<far>\nb\n</far>\n", "say", "</look>\n<say>\n"),
        ("<look>\n<near>\na\n</near>\n<far>\nb\n</far>\n</look>\n", "say", "<say>\n"),
        ("<near>\na\n</near>\n", "far", "<look>\n<far>\n"),
    ],
)
def test_opening_after_any_text(text, name, opened):
    assert opening(STEPS, name, text) == opened
    assert read(STEPS, text + opened + "x")[name] == "x"


@given(st.text(alphabet="<>/ \n*`#nearfslok", max_size=80))
def test_sections_of_any_text_are_in_order(text):
    read(STEPS, text)
    at = 0
    for section in sections(STEPS, text):
        assert at <= section.start <= section.end <= len(text)
        assert section.text in text
        at = section.end


@given(st.lists(st.sampled_from([*GOOD.split("\n"), "stray", "<think>", "</think>"]), max_size=14), st.integers(0, 80))
def test_closed_stages_stay_closed(lines, cut):
    text = "\n".join(lines)
    whole = [section for section in sections(STEPS, text) if section.closed]
    begun = [section for section in sections(STEPS, text[:cut]) if section.closed]
    assert begun == whole[: len(begun)]
