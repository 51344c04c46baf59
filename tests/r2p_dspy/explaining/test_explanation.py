"""What an answer tells a person: as text, and as HTML that no text can forge."""

import json
import re
from html.parser import HTMLParser

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs import text as command_line
from r2p_dspy import (
    R2P,
    All,
    Details,
    Enforce,
    Evidence,
    Inputs,
    Item,
    Outcome,
    Profile,
    R2PPrediction,
    Reason,
    optimizing,
)
from r2p_dspy.explaining.explanation import marked, pieces
from r2p_dspy.values.folding import find_quote
from r2p_dspy.values.lines import one_line, visible
from tests.film import FILM, HISTORY, Film, ask, program
from tests.scripted import completion

INVENTED = completion(evidence='[{"item": "9", "quote": "a whale"}]')
HOSTILE = (
    "</td></table><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{ 7*7 }} <!-- ]]> &lt;b&gt;",
    "a\x00b\x1b[2Jc\x85d\u2028e",
    "\u202eforged\u2066",
    "\" onmouseover='alert(1)' ` $",
)


class Elements(HTMLParser):
    """The names of a page's elements, their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.names, self.attributes, self.text = set(), set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data):
        self.text += data


def test_tells_all_of_a_corrected_answer(scripted):
    scripted(INVENTED, completion())
    assert ask(program()).explain() == (
        "Question:\n- film: the lighthouse keeper\n\n"
        "Answer:\n- tag: romance\n\n"
        "Evidence:\n- item m7 (romance): «a lighthouse» in the rain\n\n"
        "Preferences:\n- lighthouses are sad (items m7)\n\n"
        "Corrections (item 1 is m7, item 2 is m9):\n"
        "- attempt 1, at its end: There is no item 9; cite only 1, 2.\n"
        '- attempt 1, at its end: The preference "lighthouses are sad" must name items of the evidence.'
    )


def test_tells_unmet_checks_and_warnings(scripted):
    scripted("no field")
    with optimizing():
        text = ask(program(max_backtracks=0), profile=[]).explain()
    assert "Unmet checks:\n- Write every field" in text and "Warnings:\n- no item of the history" in text
    assert "Evidence" not in text and "Corrections" not in text


def test_tells_an_invented_item(scripted):
    scripted(INVENTED)
    assert '- item 9: there is none; the model quotes "a whale"' in ask(program(on_unmet="return")).explain()


def test_tells_candidates_and_decision(scripted):
    scripted(completion(), completion(), completion(tag="fantasy", draft="fantasy"))
    text = ask(program(candidates=3)).explain()
    assert re.search(r"Candidates:\n- 1: romance; 2 answer so; chosen\n- 2: romance; 2 answer so\n- 3: fantasy", text)
    assert "Decision:\n- 2 of 3 candidates" in text


def test_tells_the_plain_answer_of_a_fallback(scripted):
    scripted(INVENTED)
    text = ask(program(max_backtracks=0, on_unmet=lambda failure: {"tag": "unknown"})).explain()
    assert "Answer:\n- tag: unknown" in text and "Evidence" not in text
    assert "Unmet checks:" in text and "Warnings:\n- the fallback" in text


def test_tells_the_thinking_carrier_as_any_other(scripted):
    from tests.r2p_dspy.modules.test_thinking import ANSWER, thought

    scripted((thought(), ANSWER), supports_reasoning=True)
    assert "- item m7 (romance): «a lighthouse» in the rain" in ask(program(carrier="thinking")).explain()


@pytest.mark.parametrize("module", [Reason(Film), Enforce(dspy.Predict(Film))], ids=["Reason", "Enforce"])
def test_parts_tell_it_too(scripted, module):
    scripted(completion())
    explained = ask(module, profile=Profile.of(HISTORY)).explain()
    assert f"Question:\n- film: {FILM}\n" in explained and "- tag: romance" in explained


def test_prediction_without_details():
    assert R2PPrediction({"tag": "comedy"}).explain() == "Answer:\n- tag: comedy"
    assert R2PPrediction().explain() == ""


def explained(text, quote, **inputs):
    """A prediction about one item that is cited with a quote."""
    history = Profile.of([{"id": "m7", "text": text}])
    seen = Inputs({"film": FILM, "profile": history, **inputs}, history.local())
    outcome = Outcome({"tag": "x"}, {"evidence": [Evidence(item="1", quote=quote)]}, answers=("tag",))
    return R2PPrediction({"tag": "x"}, details=Details(inputs=seen, outcome=outcome))


@pytest.mark.parametrize(
    ("why", "text", "quote", "shown"),
    [
        ("Japanese", "雨の灯台で泣いた。", "灯台", "雨の«灯台»で泣いた。"),
        ("Arabic", "المنارة تحت المطر", "تحت المطر", "المنارة «تحت المطر»"),
        ("another typography", "It’s “great”", 'it\'s "great"', "«It’s “great”»"),
        ("several lines", "rain\n and  sea", "rain and sea", "«rain and sea»"),
        (
            "a long item",
            f"{'a ' * 200}lighthouse {'b ' * 200}",
            "lighthouse",
            f"…{'a ' * 60}«lighthouse» {'b ' * 59}b…",
        ),
        ("a quote that is not there", "rain", "snow", 'rain (it does not hold "snow")'),
    ],
)
def test_marks_the_quote_in_its_item(why, text, quote, shown):
    assert f"Evidence:\n- item m7: {shown}" in explained(text, quote).explain()


def test_inputs_of_any_type_are_told(scripted):
    picture = dspy.Image("data:image/png;base64,iVBORw0KGgo=")
    text = explained("rain", "rain", year=1990, still=picture, config={"temperature": 1}, empty=None).explain()
    assert "- year: 1990\n- still: " in text and "base64" not in text and "config" not in text and "empty" not in text


@pytest.mark.parametrize("evil", HOSTILE)
def test_no_text_becomes_markup_or_a_control(evil):
    answer = explained(f"{evil} rain", "rain", evil=evil)
    answer.tag = evil
    page, text = answer.details._repr_html_(), answer.explain()
    for shown in (page, answer._repr_html_()):
        elements = Elements(shown)
        assert elements.names <= {"table", "tr", "th", "td", "ul", "li", "b", "i", "bdi", "mark", "small"}
        assert elements.attributes <= {"style", "scope"}
        assert visible(evil) in elements.text
    for char in "\x00\x1b\x85\u202e\u2066":
        assert char not in page and char not in text


@pytest.mark.parametrize("name", ["explain", "details", "items", "cited"])
def test_outputs_named_like_methods(scripted, name):
    signature = Film.delete("tag").append(name, dspy.OutputField(), str)
    scripted(completion(tag=None, **{name: "romance"}))
    answer = R2P(signature, retriever=All())(film=FILM, profile=HISTORY)
    assert f"<b>{name}</b>: <bdi>romance</bdi>" in answer.details._repr_html_()


@given(st.lists(st.text(max_size=12).filter(str.strip), min_size=1, max_size=3), st.data())
def test_marks_stand_where_the_quote_does(texts, data):
    item = Item(id="1", fields={f"f{number}": text for number, text in enumerate(texts)})
    start = data.draw(st.integers(0, len(item.text) - 1))
    quote = item.text[start : data.draw(st.integers(start + 1, len(item.text)))]
    marks, missing = marked(item, [quote])
    shown = "".join(part for name, text in item.fields.items() for part, on in pieces(text, marks.get(name, ())) if on)
    own = find_quote(quote, item.text)
    assert missing == ([quote] if own is None else [])
    assert shown.replace(" ", "") == (own or "").replace(" ", "")
    for name, text in item.fields.items():
        assert "".join(part for part, _ in pieces(text, marks.get(name, ()))) == text


def test_one_line_is_the_same_on_the_command_line():
    every = [chr(code) for code in range(0x11000)] + [chr(code) for code in range(0xE0000, 0xE0100)]
    assert [one_line(f"a{char}b") for char in every] == [command_line.one_line(f"a{char}b") for char in every]


def test_attempts_keep_their_completions(scripted):
    scripted(INVENTED, completion())
    answer = ask(program())
    assert [attempt.completion for attempt in answer.attempts] == [INVENTED, completion()]
    assert json.loads(answer.attempts[0].model_dump_json())["completion"] == INVENTED


@pytest.mark.chat
def test_interventions_tell_where_they_came(pocket_corrected):
    (intervention,) = pocket_corrected.interventions
    written_on = pocket_corrected.completion[intervention.at :]
    assert written_on.lstrip().startswith("[[ ## evidence ## ]]")
    assert intervention.replaced.lstrip().startswith("[[ ## evidence ## ]]")
    assert "attempt 1, writing evidence" in pocket_corrected.explain()


@pytest.fixture
def pocket_corrected(scripted):
    from programs.tasks.lamp2 import MovieTag
    from r2p_dspy import connect

    films = {
        "senator like Verarby and mansion in Belster finds Malby with the clock": "classic",
        "glacier below Carovale with hermit like Vercott paints Malowood with the blanket": "sci-fi",
        "detective alias Harworth where hospital in Branowood polishes Lorincott with the umbrella": "true story",
    }
    history = [{"id": f"m{n}", "description": film, "label": tag} for n, (film, tag) in enumerate(films.items(), 1)]
    new = "hospital below Garsey with senator from Valcott hides Raniby with the lantern"
    with dspy.context(lm=connect("pocket", temperature=1.0)):
        return R2P(MovieTag)(description=new, profile=history)
