"""Quotes and labels by meaning: over all of Unicode, what differs in typography is the same, and nothing else is."""

import random
import time
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from r2p_dspy.values.folding import find_quote, fold, meant, same_label
from r2p_dspy.values.neutral import neutralize

QUICK = settings(max_examples=150)
ANYTHING = st.text(st.characters(exclude_categories=()), max_size=30)  # halves of surrogate pairs too


def begins(char):
    """Whether a character begins a new one, for a reader: it is seen, and no mark and no part of a syllable."""
    if char == "ŉ":  # its capital is two characters
        return False
    first = unicodedata.normalize("NFKD", char)[0]
    return unicodedata.category(first)[0] != "M" and not "\u1100" <= first <= "\u11ff" and fold(char) != ""


BASES = st.characters(exclude_categories=("M", "Z", "C", "P")).filter(begins)
MARKS = st.characters(categories=("M",))
# Characters as a reader sees them, with the marks on them.
LETTERS = st.builds(lambda base, marks: base + marks, BASES, st.text(MARKS, max_size=2)) | st.sampled_from(
    [*"aeiou 'éß½ﬁ", "각", "“", "…", "»", "¿", "。", "—", "❤\ufe0f", "ᾴ"]
)


def says_something(text):
    return any(char.isalnum() for char in fold(text))


@QUICK
@given(ANYTHING)
def test_folding_again_changes_nothing(text):
    assert fold(fold(text)) == fold(text)


@QUICK
@given(ANYTHING, st.sampled_from(["NFC", "NFD"]))
def test_one_text_in_two_normal_forms(text, form):
    assert fold(unicodedata.normalize(form, text)) == fold(text)


@QUICK
@given(ANYTHING)
def test_neutralizing_is_typography(text):
    assert fold(neutralize(text)) == fold(text)


SAME = [
    ("quote marks", 'It\'s "great"', "It’s “great”", "It´s «great»", "It`s ``great''", "Itʼs „great‟"),
    ("quote marks of the East", "'great'", "「great」", "『great』", "＂great＂", "〝great〟"),
    ("dashes", "a co-op - no", "a co‐op – no", "a co‑op — no", "a co−op -- no", "a co－op―no"),
    ("ellipses", "well... no", "well… no", "well . . . no", "well…no"),
    ("normal forms", "caf\u00e9", "cafe\u0301"),
    ("syllables", "\uac01", "\u1100\u1161\u11a8"),
    ("full width", "Room 101!", "Ｒｏｏｍ　１０１！"),
    ("stops", "很好. 真的, 好", "很好。真的、好"),
    ("what is not seen", "family of", "fam\u200bily of\ufeff", "fam\u00adily \u200eof", "fa\u2060mily\u00a0of"),
    ("emoji selectors", "❤ it", "❤\ufe0f it"),
    ("joined emoji", "👨\u200d👩\u200d👧", "👨👩👧"),
    ("case", "Straße", "STRASSE", "strasse"),
    ("sigma", "ΟΔΟΣ", "οδος", "οδοσ"),
    ("an iota below", "ᾴ", "\u03b1\u0345\u0301", "\u0391\u0301\u0399"),
    ("a dotless i", "ışık", "IŞIK"),
    ("ligatures and fractions", "ﬁve ½", "five 1/2", "five 1⁄2"),
    ("digits", "24", "２４", "٢٤", "२४"),
    ("white space", "a  b\n c", "a b c", "\ta b\u3000c "),
    ("white space beside marks", "« Oui ! »", "«Oui!»", '"oui!"'),
]  # fmt: skip
DIFFERENT = [
    ("words", "now here", "nowhere"),
    ("accents", "resume", "résumé"),
    ("a whole number and a fraction", "1½", "11/2"),
    ("marks", "great!", "great?"),
    ("a letter of Korean chat", "하ㅠ", "휴"),
    ("a sign", "-1", "1"),
]


@pytest.mark.parametrize("texts", [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_same_text(texts):
    assert {fold(text) for text in texts} == {fold(texts[0])}
    for text in texts:
        quote = find_quote(text, f"So {texts[0]} he said")
        assert quote is not None
        assert fold(quote) == fold(text)


@pytest.mark.parametrize(("first", "second"), [row[1:] for row in DIFFERENT], ids=[row[0] for row in DIFFERENT])
def test_other_text(first, second):
    assert fold(first) != fold(second)


@QUICK
@given(ANYTHING, st.data())
def test_every_part_of_a_text_is_a_quote(text, data):
    start = data.draw(st.integers(0, len(text)))
    quote = text[start : data.draw(st.integers(start, len(text)))]
    assume(says_something(quote))
    assert find_quote(quote, text) == quote.strip()


VARIANTS = {"'": "'\"“”‘’«»「」`", "-": "-‐‑–—−", " ": " \n\t\u00a0\u3000"}


def retyped(letters, seed):
    """A text of these letters as another hand would type it: typography, normal form, case."""
    hand, typed = random.Random(seed), []
    for letter in letters:
        typed.append(hand.choice(VARIANTS.get(fold(letter) or letter, [letter])))
        typed.append(hand.choice(["\u200b", "\u00ad", "\ufe0f", *[""] * 6]))
        typed.append(hand.choice(["", " "]) if letter.isspace() else "")
    text = hand.choice([str, str.upper, str.lower, str.swapcase])(unicodedata.normalize("NFD", "".join(typed)))
    around = hand.choice(["{}", " {}\n", '"{}"', "“{}”", "…{}…", "[…] {}.", "**{}**"])
    return around.format(unicodedata.normalize(hand.choice(["NFC", "NFD"]), text))


@settings(max_examples=300)
@given(st.lists(LETTERS, min_size=1, max_size=12), st.data(), st.integers(0, 2**32))
def test_a_part_typed_by_another_hand_is_found(letters, data, seed):
    start = data.draw(st.integers(0, len(letters) - 1))
    part = letters[start : data.draw(st.integers(start + 1, len(letters)))]
    assume(says_something("".join(part)))
    text, quote = "".join(letters), retyped(part, seed)
    stretch = find_quote(quote, text)
    assert stretch is not None
    assert stretch in text, "the text's own characters"
    assert fold(stretch).strip(" .,;:()[]*_-'") == fold("".join(part)).strip(" .,;:()[]*_-'")


WORDS = st.lists(st.text("abcdéß", min_size=1, max_size=5), min_size=3, max_size=8, unique_by=fold)
NOISE = st.text("abcdefgABC “”’—…\u200b\u0301", max_size=40)


@QUICK
@given(NOISE, st.text("abcABC ’\u0301", max_size=8), st.text("abcABC ’\u0301", max_size=8))
def test_what_is_not_in_the_text_is_not_found(text, before, after):
    assert find_quote(f"{before}x{after}", text) is None


@QUICK
@given(WORDS, st.sampled_from([" ", " … ", " ... ", " [...] ", "—"]), st.data())
def test_skipped_words_are_not_forgiven(words, mark, data):
    skipped = data.draw(st.integers(1, len(words) - 2))
    quote = mark.join([" ".join(words[:skipped]), " ".join(words[skipped + 1 :])])
    text = " ".join(words)
    assume(fold(" ".join([*words[:skipped], *words[skipped + 1 :]])) not in fold(text))
    assert find_quote(quote, text) is None


@QUICK
@given(ANYTHING, ANYTHING)
def test_whatever_is_found_stands_there(quote, text):
    stretch = find_quote(quote, text)
    assert stretch is None or (stretch and stretch in text)


@QUICK
@given(st.text("\\nu002e\"'a .", max_size=8), st.text("\n\"'ea .", max_size=8))
def test_whatever_is_found_under_escapes_stands_there(quote, text):
    stretch = find_quote(quote, text)
    assert stretch is None or (stretch and stretch in text)


MARKERS = ["[[ ## draft ## ]]", "<draft>", "</think>", "<|im_end|>", "[INST]", "<<CUSTOM-TYPE-START>>", "[[##a##]]"]


@QUICK
@given(st.lists(st.sampled_from(MARKERS) | st.text("ab é’[<#>]", max_size=6), min_size=1, max_size=6), st.data())
def test_quote_of_the_neutralized_form(pieces, data):
    own = "".join(pieces)
    shown = neutralize(own)
    start = data.draw(st.integers(0, len(shown) - 1)) if shown else 0
    quote = shown[start : data.draw(st.integers(start, len(shown)))]
    assume(says_something(quote))
    stretch = find_quote(quote, own)
    assert stretch is not None
    assert stretch in own
    assert find_quote(stretch, shown) is not None, "and the other way round"


@pytest.mark.parametrize(
    ("why", "quote", "text", "stretch"),
    [
        ("a lone accent", "CAFÉ", "a cafe\u0301 here", "cafe\u0301"),
        ("half a letter", "CAFE", "a cafe\u0301 here", None),
        ("half a composed letter", "cafe", "a café here", None),
        ("half a syllable", "\uac00!", "\uac01!", None),
        ("half a ligature", "ﬁ-F", "a ﬁ-ﬀ", None),
        ("half a sharp s", "MAS", "Maß", None),
        ("the second of two places", "CAFE", "café cafe", "cafe"),
        ("an emoji with its selector", "LOVE ❤", "love ❤\ufe0f!", "love ❤\ufe0f"),
        ("a fraction", "1/2 stars", "1½ stars", "½ stars"),
        ("a number in brackets that is one character", "“⑴ Rain”", "⑴ rain", "⑴ rain"),
        ("an apostrophe in one character", '"ŉ Huis"', "ŉ huis", "ŉ huis"),
        ("marks around it", '"a lighthouse."', "in a Lighthouse, in rain", "a Lighthouse"),
        ("JSON's escapes", r"say \"hi\"\n\u00e9\ud83d\ude00", 'They say “hi”\né😀', 'say “hi”\né😀'),
        ("XML's line breaks", "\n  a\n  lighthouse\n", "a lighthouse", "a lighthouse"),
        ("half a pair", "rain \ud83d", "rain \ufffd here", "rain \ufffd"),
        ("escapes of nothing", r"\n", "a", None),
        ("escapes of marks", r"\u002e", "a.", None),
        ("nothing", "", "a", None),
        ("white space", " \n", " a ", None),
        ("nothing to see", "\u200b", "a\u200b", None),
        ("a filler", "\u3164", "a\u3164", None),
        ("an ellipsis", "…", "a… b", None),
        ("quote marks", '""', 'a "" b', None),
        ("an item of marks alone, whole", "?!", " ?!", "?!"),
        ("an item of marks alone, in part", "?", "?!", None),
        ("an emoji", "🎉", "🎉🎉", "🎉"),
    ],
)  # fmt: skip
def test_stretch_of_the_text(why, quote, text, stretch):
    assert find_quote(quote, text) == stretch


@pytest.mark.parametrize(
    ("why", "quote", "text"),
    [
        ("half characters everywhere", "f" * 100_001, "ﬀ" * 100_000),
        ("a long quote of a long text", "aB" * 300_000 + "c", "ab" * 400_000),
        ("marks without end", "…" * 100_000 + "a", "…" * 100_000),
        ("escapes without end", r"\n" * 200_000 + "a", "\n" * 200_000),
        ("accents without end", "E" + "\u0301\u0323" * 100_000, "e" + "\u0323\u0301" * 100_000 + "\u0302"),
        ("nothing to see without end", "A", "b" + "\u200b" * 500_000),
    ],
)
def test_hostile_quote_takes_linear_time(why, quote, text):
    started = time.process_time()
    assert find_quote(quote, text) is None
    assert time.process_time() - started < 20


TAGS = ["romance", "dark comedy", "sci-fi", "based on a book"]
GRADES = ["C", "C++", "C#", "A.", "A", "B-", "B"]
STARS = ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("label", "labels", "meaning"),
    [
        *((written, TAGS, "romance") for written in (
            "romance", " romance\n", "Romance", "ROMANCE", "romance.", '"romance"', "“Romance.”", "'romance',",
            "romance;", "**romance**", "- romance", "`romance`", "(romance)", "ｒｏｍａｎｃｅ", "ro\u00admance\ufeff",
        )),
        *((written, TAGS, "sci-fi") for written in ("Sci‑Fi", "sci–fi", "SCI - FI")),
        *((written, TAGS, None) for written in ("", " ", "...", "drama", "romance comedy", "comedy", "scifi", "rom")),
        *((label, GRADES, label) for label in GRADES),
        ("c", GRADES, "C"), ("c++", GRADES, "C++"), ("c#.", GRADES, "C#"), ("C-", GRADES, None), ("a", GRADES, "A"),
        ('"A."', GRADES, "A."), ("(a)", ["A", "A."], None), ("romance", ["Romance", "ROMANCE"], None),
        ("Romance", ["Romance", "ROMANCE"], "Romance"),
        *((written, STARS, "4") for written in ("4", "4.0", "4.", "４", "４．０", "+4", "04", "(4)", "٤")),
        *((written, STARS, None) for written in ("-4", "4.5", "4/5", "45", "four", "4e0")),
        ("4", ["4.0", "4"], "4"), ("4.00", ["4.0", "4"], None),
        ("1", ["[1]", "[2]"], "[1]"), ("-1", ["1", "-1.0"], "-1.0"),
        ("cafe\u0301", ["cafe", "café"], "café"), ("anything", [], None),
    ],
)  # fmt: skip
def test_label_that_is_meant(label, labels, meaning):
    assert meant(label, labels) == meaning


@QUICK
@given(st.lists(ANYTHING, max_size=6), ANYTHING)
def test_a_label_means_itself_or_one_of_the_labels(labels, written):
    assert meant(written, labels) in (*labels, None)
    for label in filter(str.strip, labels):
        assert meant(label, labels) == label


@QUICK
@given(st.lists(LETTERS, min_size=1, max_size=6), st.integers(0, 2**32))
def test_a_label_typed_by_another_hand(letters, seed):
    assume(says_something("".join(letters)))
    label, written = "".join(letters), retyped(letters, seed)
    assert same_label(written, label)
    assert same_label(label, written)


def test_labels_that_are_known_to_differ():
    assert same_label("A.", "A")
    assert not same_label("A.", "A", ["A", "A."])
    assert same_label('"a."', "A.", ["A", "A."])
    assert same_label("Other", "other.", ["A", "A."]), "a label of the user's own"
