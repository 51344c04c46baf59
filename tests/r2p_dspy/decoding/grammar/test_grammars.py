"""What the grammars refuse, where they go on, and what they say of types that they cannot hold."""

import random
from datetime import timedelta
from typing import Annotated, Any, Literal

import dspy
import pytest
from pydantic import AfterValidator, BaseModel, Field, field_validator

from r2p_dspy.decoding.grammar.answer import Limits
from r2p_dspy.modules.reason import Reason
from r2p_dspy.profile import Profile
from r2p_dspy.template import BRIEF, Evidence, Preference, Stage, Template
from tests.film import Film
from tests.r2p_dspy.decoding.grammar.test_answers import ADAPTERS, HOSTILE, items_of, typed
from tests.r2p_dspy.decoding.grammar.walks import BYTES, accepts, allows, constraint_of, llguidance, matcher, written

ITEMS = Profile.of(
    [
        {"text": "a lighthouse in the rain", "label": "romance"},
        {"text": "a wizard in the city", "label": "fantasy"},
        {"text": "no label here"},
    ]
).local()
Labelled = typed(Literal["romance", "fantasy"], {})
EVIDENCE = '[{"item": "1", "quote": "a lighthouse"}]'
PREFERENCES = '[{"statement": "sad", "items": ["1"], "label": "romance"}]'


def chat(**changes):
    fields = {
        "requirements": "a tag",
        "evidence": EVIDENCE,
        "preferences": PREFERENCES,
        "draft": "romance",
        "verification": '{"approved": true, "reason": "item 1"}',
        "tag": "romance",
    }
    texts = [f"[[ ## {name} ## ]]\n{text}" for name, text in {**fields, **changes}.items() if text is not None]
    return "\n\n".join([*texts, "[[ ## completed ## ]]"])


def constraint(signature=Labelled, items=ITEMS, adapter="chat", carrier="fields", **options):
    return constraint_of(Reason(signature, carrier=carrier), items, ADAPTERS[adapter](), **options)


RIGHT = [
    {},
    {"requirements": "its marks:\n[1] sea\n  [] rain"},
    {"requirements": "two lines:\n  - a [mark]\n\nand <b>a third</b> & more"},
    {"requirements": 'it says "draft": and <draft> and [[ ## x'},
    {"evidence": '[{"item": "2", "quote": "wizard in the city"}, {"item": "1", "quote": "rain"}]'},
    {"preferences": '[{"statement": "sad", "items": ["1"], "label": null}]'},
    {"preferences": '[{"statement": "sad", "items": ["1"]}]'},
    {"preferences": '[{"statement": "says \\"no\\"", "items": ["1", "2"], "label": null}]'},
    {"preferences": '[{"statement": "sad", "items": ["3", "1", "2"], "label": null}]'},
    {"preferences": "[]"},
    {"verification": '{"approved": false, "reason": "no"}'},
]
WRONG = [
    {"requirements": None},
    {"requirements": ""},
    {"requirements": "text\n[[ ## draft ## ]]\nx"},
    {"requirements": "text\n  [[ ## draft ## ]]\nx"},
    {"evidence": None},
    {"evidence": "[]"},
    {"evidence": '[{"item": "4", "quote": "a lighthouse"}]'},
    {"evidence": '[{"item": 1, "quote": "a lighthouse"}]'},
    {"evidence": '[{"item": "1", "quote": "a wizard"}]'},
    {"evidence": '[{"item": "1", "quote": "a light"}]'},
    {"evidence": '[{"item": "1", "quote": "a rain"}]'},
    {"evidence": '[{"item": "1", "quote": ""}]'},
    {"evidence": '[{"quote": "rain", "item": "1"}]'},
    {"evidence": f"[{EVIDENCE[1:-1]}, {EVIDENCE[1:-1]}]"},
    {"preferences": '[{"statement": "sad", "items": ["4"], "label": null}]'},
    {"preferences": '[{"statement": "sad", "items": [], "label": null}]'},
    {"preferences": '[{"statement": "sad", "items": ["1", "1"], "label": null}]'},
    {"preferences": '[{"statement": "sad", "items": ["1"], "label": "fantasy"}]'},
    {"preferences": '[{"statement": "sad", "items": ["1"], "label": "drama"}]'},
    {"preferences": '[{"statement": "sad", "items": ["1", "2"], "label": "romance"}]'},
    {"preferences": '[{"statement": " ", "items": ["1"], "label": null}]'},
    {"draft": "drama"},
    {"verification": '{"approved": "yes", "reason": "item 1"}'},
    {"verification": '{"reason": "item 1", "approved": true}'},
    {"tag": "drama"},
    {"tag": None},
]


@pytest.mark.parametrize("changes", RIGHT, ids=str)
def test_what_the_grammar_allows(changes):
    assert accepts(constraint().grammar("", whole=True), chat(**changes))


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_what_the_grammar_refuses(changes):
    grammar = constraint().grammar("", whole=True)
    assert not accepts(grammar, chat(**changes))
    assert allows(grammar, chat()) == chat()


def test_evidence_quotes_the_fields_that_are_quotable():
    items = Profile.of([{"title": "a lighthouse", "text": "sea and rain"}, {"text": "sea and wind"}]).local()
    program = Reason(Labelled, quotable=["title"])
    form = constraint_of(program, items, ADAPTERS["chat"](), quotable=program.quotable)
    grammar = form.grammar("", whole=True)

    def quoting(item, quote):
        return accepts(grammar, chat(evidence=f'[{{"item": "{item}", "quote": "{quote}"}}]', preferences="[]"))

    assert quoting("1", "a lighthouse") and not quoting("1", "sea and rain")
    assert not quoting("1", "lighthouse"), "a short field is quoted whole"
    assert quoting("2", "sea and wind"), "an item without a title"
    assert program.deepcopy().quotable == ("title",)


@pytest.mark.parametrize(
    ("title", "part"), [("静かな海の映画が好きです。" * 30, "静かな海の映画"), ("x" * 300 + " rain", "rain")]
)
def test_a_long_text_is_quoted_in_part_in_any_script(title, part):
    items = Profile.of([{"title": title, "text": "sea"}]).local()
    program = Reason(Labelled, quotable=["title"])
    grammar = constraint_of(program, items, ADAPTERS["chat"](), quotable=program.quotable).grammar("", whole=True)
    assert accepts(grammar, chat(evidence=f'[{{"item": "1", "quote": "{part}"}}]', preferences="[]"))


BEGINNINGS = [  # of an answer, and whether it begins as no placeholder of the prompt, JSON, code or heading does
    ("{tag}", False),
    ('{"item": "1"}', False),
    ("[1] romance", False),
    ('"romance"', False),
    ("'romance'", False),
    ("```\nromance", False),
    ("# note: the value", False),
    ("**romance**", False),
    ("| romance", False),
    ("<3 romance", False),
    ("\\romance", False),
    ('romance {of} "a" kind', True),
    ("4 romances", True),
    ("ロマンス", True),
    ("💔 romance", True),
    ("¿romance?", True),
    ("(a romance)", True),
    ("@romance", True),
]


@pytest.mark.parametrize("adapter", ["chat", "xml", "json"])
@pytest.mark.parametrize(("text", "kept"), BEGINNINGS)
def test_an_answer_begins_like_no_format_unless_the_users_own_texts_do(adapter, text, kept):
    program = Reason(typed(str, {}), Template(stages=()))
    answer = ADAPTERS[adapter]().format_assistant_message_content(program.signature, {"tag": text}).strip()
    of_the_prompt = text.startswith(("{", "["))
    cases = [(ITEMS, kept), (Profile.of(["rain", text]).local(), True), (Profile(), not of_the_prompt)]
    for items, may in cases:
        assert accepts(constraint_of(program, items, ADAPTERS[adapter]()).grammar(""), answer) == may


def test_a_draft_begins_as_the_answer_may_and_a_stage_like_no_format():
    whole = constraint(typed(str, {}), Profile.of(["a lighthouse", "{rain}"]).local()).grammar("", whole=True)
    kept = {"evidence": EVIDENCE, "preferences": "[]"}
    assert accepts(whole, chat(**kept, draft="{rain}", tag="{rain}"))
    assert not accepts(whole, chat(**kept, requirements="{requirements}"))
    assert not accepts(constraint(typed(str, {})).grammar("", whole=True), chat(draft="{draft}"))


def test_stages_stand_in_their_order():
    grammar = constraint().grammar("", whole=True)
    assert allows(grammar, "[[ ## evidence ## ]]") == "[[ ## "
    assert not accepts(grammar, chat(requirements="a tag\n\n[[ ## requirements ## ]]\nagain"))


@pytest.mark.parametrize("label_rule", ["cited", "items"])
def test_a_label_is_of_the_items_that_the_preference_names_or_of_any(label_rule):
    grammar = constraint(label_rule=label_rule).grammar("", whole=True)
    other = '[{"statement": "sad", "items": ["1"], "label": "fantasy"}]'
    unknown = '[{"statement": "sad", "items": ["1"], "label": "drama"}]'
    assert accepts(grammar, chat(preferences=other)) == (label_rule == "items")
    assert not accepts(grammar, chat(preferences=unknown))


STARTS = {"chat": "[[ ## preferences ## ]]\n", "xml": "<preferences>", "json": '"preferences": '}


@pytest.mark.parametrize("carrier", ["fields", "thinking"])
@pytest.mark.parametrize("adapter", STARTS)
def test_the_rest_is_asked_for_where_the_preferences_begin(adapter, carrier):
    limited = constraint(adapter=adapter, carrier=carrier, limits=Limits(stage_tokens=25), opened=False)
    first = limited.grammar("")
    assert not first.final
    made = matcher(first)
    rng = random.Random(1)
    text = written(limited, rng)
    begun = allows(first, text)
    assert begun.endswith("<preferences>\n" if carrier == "thinking" else STARTS[adapter])
    assert made.consume_tokens(list(begun.encode())) and made.is_stopped()  # it ends there by itself
    assert limited.grammar(begun).final


def test_preferences_rest_on_what_the_text_cites():
    begun = chat().partition("[")[0] + chat().partition("\n\n[[ ## preferences ## ]]\n")[0]
    begun += "\n\n[[ ## preferences ## ]]\n"
    rest = constraint().grammar(begun)
    assert accepts(rest, chat().partition("[[ ## preferences ## ]]\n")[2])
    other = chat(preferences='[{"statement": "sad", "items": ["2"], "label": null}]')
    assert not accepts(rest, other.partition("[[ ## preferences ## ]]\n")[2])


def test_no_evidence_leaves_no_preference():
    empty = constraint(items=Profile())
    assert accepts(empty.grammar("", whole=True), chat(evidence="[]", preferences="[]"))
    assert not accepts(empty.grammar("", whole=True), chat(evidence="[]"))
    assert not accepts(empty.grammar("", whole=True), chat(preferences="[]"))


NOTE = "\n(Wait. The stage evidence comes first.)\n"


@pytest.mark.parametrize(
    ("adapter", "carrier", "before", "rest"),
    [
        ("chat", "fields", f"[[ ## requirements ## ]]\na tag{NOTE}\n[[ ## evidence ## ]]\n", f"{EVIDENCE}\n\n[[ ## p"),
        ("chat", "fields", "[[ ## requirements ## ]]", "\na tag\n\n[[ ## ev"),
        ("chat", "fields", f"x{NOTE}\n[[ ## draft ## ]]\n", 'romance\n\n[[ ## verification ## ]]\n{"approved": '),
        ("chat", "fields", f"x{NOTE}\n[[ ## tag ## ]]\n", "romance\n\n[[ ## completed ## ]]"),
        (
            "xml",
            "fields",
            f"<requirements>\nx\n</requirements>{NOTE}\n<evidence>\n",
            "<item><item>1</item><quote>rain<",
        ),
        ("xml", "fields", f"x{NOTE}\n<draft>\n", "romance\n</draft>\n\n<verification><approved>True</approved>"),
        ("xml", "fields", f"x{NOTE}\n<tag>\n", "romance\n</tag>"),
        ("json", "fields", '{\n  "requirements": "x",\n  "evidence": ', '[\n    {\n      "item": "1",'),
        (
            "chat",
            "thinking",
            "<think>\n",
            "<analyse>\n<requirements>\na tag\n</requirements>\n</analyse>\n<synthesise>\n",
        ),
        ("chat", "thinking", "<think>", "\n<analyse>\n<requirements>\n"),
        ("chat", "thinking", f"<think>\nx{NOTE}<evidence>\n", f"{EVIDENCE}\n</evidence>\n<preferences>\n"),
        ("chat", "thinking", f"x{NOTE}</respond>\n</think>\n\n", "[[ ## tag ## ]]\nromance\n\n[[ ## completed ## ]]"),
        ("xml", "thinking", f"x{NOTE}</respond>\n</think>\n\n", "<tag>\nromance\n</tag>"),
        ("json", "thinking", f"x{NOTE}</respond>\n</think>\n\n", '{\n  "tag": "romance"\n}'),
    ],
)
def test_a_corrected_answer_goes_on_from_its_stage(adapter, carrier, before, rest):
    grammar = constraint(adapter=adapter, carrier=carrier).grammar(before)
    assert allows(grammar, rest) == rest
    assert allows(grammar, "!") == ""


@pytest.mark.parametrize(
    ("opened", "begins"),
    [
        (False, {"<think>\n<analyse>": True, "\n<analyse>": False, "<analyse>": False}),
        (True, {"<think>\n<analyse>": False, "\n<analyse>": True, "<analyse>": True}),
        (None, {"<think>\n<analyse>": True, "\n<analyse>": True, "<analyse>": True}),
    ],
)
def test_a_thought_begins_as_the_prompt_leaves_it(opened, begins):
    grammar = constraint(carrier="thinking", opened=opened).grammar("")
    assert {text: allows(grammar, text) == text for text in begins} == begins


@pytest.mark.parametrize("text", ["<think>", "<think>\n"])
def test_a_thought_of_the_models_own_goes_before_the_fields(text):
    grammar = constraint().grammar(text, whole=True)
    assert accepts(grammar, f"I think [[ ## tag ## ]] of rain.\n</think>\n\n{chat()}")
    assert accepts(constraint(opened=True).grammar("", whole=True), f"</think>\n\n{chat()}")
    assert not accepts(grammar, chat())


UNREAD = ['[{"item": "9", "quote": "x"}]', '[{"item": "\\x", "quote": "x"}]', "quote: none"]


@pytest.mark.parametrize("evidence", [*UNREAD, "[]", EVIDENCE])
def test_evidence_that_cannot_be_read_leaves_all_items_to_preferences(evidence):
    begun = chat(evidence=evidence).partition("[[ ## preferences ## ]]\n")
    rest = constraint().grammar("".join(begun[:2]))
    allowed = {"1": evidence != "[]", "2": evidence in UNREAD}
    for item, expected in allowed.items():
        written = chat(preferences=f'[{{"statement": "sad", "items": ["{item}"], "label": null}}]')
        assert accepts(rest, written.partition("[[ ## preferences ## ]]\n")[2]) == expected


@pytest.mark.parametrize("text", ["what?", "[[ ## other ## ]]\n", "</think>", chat()])
def test_a_text_that_is_not_in_the_format_may_go_on_freely(text):
    grammar = constraint().grammar(text)
    assert grammar.final and accepts(grammar, "anything\n[[ ## tag ## ]]\nromance")


@pytest.mark.parametrize(
    ("adapter", "carrier", "begun"),
    [
        ("chat", "fields", "[[ ## requirements ## ]]\n"),
        ("xml", "fields", "<requirements>\n"),
        ("json", "fields", '{\n  "requirements": "'),
        ("chat", "thinking", "<think>\n<analyse>\n<requirements>\n"),
    ],
)
def test_a_loop_is_led_out_of_its_stage(adapter, carrier, begun):
    limited = constraint(Film, adapter=adapter, carrier=carrier, limits=Limits(stage_tokens=50))
    grammar = limited.grammar("")
    loop = allows(grammar, begun + "the same and " * 100)
    assert 200 <= len(loop) - len(begun) <= 301
    made = matcher(grammar)
    assert made.consume_tokens(list(loop.encode()))
    assert b"evidence" in _forced(made)


def _forced(made):
    """What a model is led to write next: it has no other choice."""
    return bytes(made.compute_ff_tokens())


@pytest.mark.parametrize("adapter", ["chat", "xml", "json"])
@pytest.mark.parametrize("raw", [False, True])
def test_grammars_of_hostile_items_are_clean(adapter, raw):
    items = items_of(*HOSTILE, "x" * 10**6, "word " * 200_000, raw=raw)
    for carrier in ("fields", "thinking"):
        for whole in (False, True):
            grammar = constraint(Film, items, adapter, carrier).grammar("", whole=whole)
            assert llguidance.LLMatcher.validate_grammar_with_warnings(grammar.source, BYTES) == (False, [])


@pytest.mark.parametrize(("count", "words"), [(1, 200_000), (4, 4000), (30, 2000), (100, 200), (300, 200)])
def test_large_histories_are_quoted_from_their_beginnings(count, words):
    entries = [{"text": " ".join(f"w{at % 997}x{place}" for at in range(words))} for place in range(count)]
    items = Profile.of(entries).local()
    limited = constraint(Film, items)
    assert llguidance.LLMatcher.validate_grammar(limited.grammar("", whole=True).source, BYTES) == ""
    assert limited.shortened == tuple(item.id for item in items)
    assert constraint().shortened == ()


class Even(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def _even(cls, value):
        return value


@pytest.mark.parametrize(
    ("kind", "options", "held"),
    [
        (str, {}, True),
        (Literal["a", "b"], {}, True),
        (dict[str, list[int]], {}, True),
        (int, {"ge": 1, "le": 10**6}, True),
        (str, {"max_length": 10}, True),
        (str, {"pattern": "a+"}, False),
        (float, {"ge": 0}, False),
        (int, {"multiple_of": 3}, False),
        (timedelta, {}, False),
        (Even, {}, False),
        (list[Even], {}, False),
        (Annotated[int, AfterValidator(lambda value: value)], {}, False),
        (Any, {}, False),
        (dspy.Image, {}, False),
        (type, {}, False),
    ],
)
def test_a_type_that_no_grammar_holds_is_named(kind, options, held):
    signature = typed(Annotated[kind, Field(**options)] if options else kind, {})
    for adapter in ("chat", "xml", "json"):
        assert constraint(signature, adapter=adapter).unconstrained == (() if held else ("tag",))


def test_a_range_holds():
    grammar = constraint(typed(int, {"ge": -2, "le": 1500})).grammar("x\n[[ ## tag ## ]]\n")
    end = "\n\n[[ ## completed ## ]]"
    assert [accepts(grammar, f"{n}{end}") for n in (-3, -2, 0, 7, 1500, 1501)] == [False, True, True, True, True, False]


class Tree(BaseModel):
    name: str
    parts: list["Tree"] = []


@pytest.mark.parametrize("adapter", ["chat", "json"])
def test_a_type_that_contains_itself(adapter):
    limited = constraint(typed(Tree, {}), adapter=adapter, limits=Limits(stage_tokens=25, answer_tokens=25))
    assert limited.unconstrained == ()
    assert llguidance.LLMatcher.validate_grammar(limited.grammar("", whole=True).source, BYTES) == ""


def test_stages_of_own_templates():
    template = Template(
        stages=(
            Stage("mood", "How it feels.", Literal["good", "bad"]),
            Stage("wishes", "What to do.", list[Preference]),
            Stage("proof", "Where it stands.", list[Evidence]),
        )
    )
    reason = Reason(Film, template)
    limited = constraint_of(reason, ITEMS, dspy.ChatAdapter())
    grammar = limited.grammar("")
    assert grammar.final  # no preferences follow the evidence
    text = f"[[ ## mood ## ]]\ngood\n\n[[ ## wishes ## ]]\n[]\n\n[[ ## proof ## ]]\n{EVIDENCE}\n\n[[ ## tag ## ]]\nx"
    assert accepts(grammar, f"{text}\n\n[[ ## completed ## ]]")


def test_json_answers_have_a_schema_with_the_ids_and_labels():
    assert constraint().schema() is None and constraint(adapter="xml").schema() is None
    assert constraint(adapter="json", carrier="thinking").schema() is None
    schema = constraint(adapter="json").schema()
    assert schema["required"] == ["requirements", "evidence", "preferences", "draft", "verification", "tag"]
    fields = schema["properties"]
    assert fields["evidence"]["items"]["properties"]["item"]["enum"] == ["1", "2", "3"]
    assert fields["preferences"]["items"]["properties"]["label"]["anyOf"][0]["enum"] == ["romance", "fantasy"]
    assert fields["draft"]["enum"] == fields["tag"]["enum"] == ["romance", "fantasy"]
    assert fields["verification"]["required"] == ["approved", "reason"]


@pytest.mark.parametrize("items", [ITEMS, Profile()], ids=["items", "none"])
@pytest.mark.parametrize("kind", [str, Tree, Even, list[int], int | None])
def test_a_schema_is_one_that_answers_of_the_grammar_follow(kind, items):
    limited = constraint(typed(kind, {}), items, "json", limits=Limits(stage_tokens=25, answer_tokens=25))
    source = llguidance.LLMatcher.grammar_from_json_schema(limited.schema())
    made = llguidance.LLMatcher(BYTES, source)
    assert not made.is_error(), made.get_error()


def test_an_adapter_of_another_format_has_no_grammar():
    assert constraint_of(Reason(Film, BRIEF), ITEMS, dspy.TwoStepAdapter(dspy.LM("a/b"))) is None
