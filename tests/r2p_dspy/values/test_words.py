"""Words of any script: one tokenizer for search, likeness, limits and redaction."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize as rouge_words

from r2p_dspy.values.words import count_words, fold_case, has_phrase, turkish_words, units, words

# Any character, and among few of them those that meet in odd ways: marks, joiners, jamo, ligatures, emoji.
ODD = (
    "aIİıßſς\u0345\u0301\u030a\u3099\uff9eｶカ가ᄀㄱㅏ각中〇々ーไทยកក្ក"
    "\u200c\u200d❤\ufe0f👍🏽🇩🇪ﷺﬁ½ \u3000_'\u0f77\u1fb3\ud800"
)
TEXTS = st.text(st.characters(), max_size=12) | st.text(st.sampled_from(ODD), max_size=10)


@given(TEXTS)
def test_case_and_unicode_form_do_not_change_words(text):
    assert words(fold_case(text)) == words(text) and fold_case(fold_case(text)) == fold_case(text)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        normal = unicodedata.normalize(form, text)
        assert words(normal) == words(text) and count_words(normal) == count_words(text)
    # Case is defined on decomposed text: a mark may become a letter.
    assert words(unicodedata.normalize("NFKD", text).casefold()) == words(text)


@given(TEXTS, TEXTS)
def test_a_space_separates(first, second):
    joined = f"{first} {second}"
    assert words(joined) == words(first) + words(second)
    assert count_words(joined) == count_words(first) + count_words(second)
    assert [unit.text for unit in units(joined)] == [unit.text for unit in (*units(first), *units(second))]


@given(TEXTS)
def test_units_have_their_places(text):
    found = units(text)
    assert all(unit.text and 0 <= unit.start < unit.end <= len(text) for unit in found)
    assert [unit.start for unit in found] == sorted(unit.start for unit in found)
    composed, decomposed = (units(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
    assert [unit.text for unit in composed] == [unit.text for unit in decomposed]


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_words_are_rouges(text):
    assert words(text) == rouge_words(text, None)


@pytest.mark.parametrize(
    ("case", "text", "expected"),
    [
        ("curly quotes and dashes", "“It’s” — Zürich, 2024…", ["it", "s", "zürich", "2024"]),
        ("Chinese", "我爱喝茶。", ["我", "我爱", "爱", "爱喝", "喝", "喝茶", "茶"]),
        ("one Chinese character", "茶", ["茶"]),
        ("Japanese", "猫がスキー", ["猫", "猫が", "がス", "スキ", "キー"]),
        ("half-width kana", "ﾊﾞｽ", ["バス"]),
        ("Korean", "물을 고양이가", ["물을", "고양이가", "고양", "양이", "이가"]),
        ("Devanagari keeps its marks", "नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("Arabic keeps its marks", "مُحَمَّد", ["مُحَمَّد"]),
        ("Persian with a joiner", "می\u200cخواهم", ["میخواهم"]),
        ("scripts side by side", "iPhone手机 ３月", ["iphone", "手", "手机", "机", "3", "月"]),
        ("emoji without their modifiers", "ok👍🏽❤️ 🇩🇪🇫🇷", ["ok", "👍", "❤", "🇩🇪", "🇫🇷"]),
        ("nothing but signs", "… !? _ \u200d", []),
    ],
)
def test_words(case, text, expected):
    assert words(text) == expected, case


def test_no_mark_of_a_script_without_spaces_stands_alone():
    for text in ("น้ำใสไหลเย็น", "ភាសាខ្មែរ", "မြန်မာစာ", "ພາສາລາວ"):
        assert not [word for word in words(text) if unicodedata.category(word[0]).startswith("M")]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("Don't stop - it's well-made!", 4),
        ("a  b\n\u3000c", 3),
        ("我爱你，世界。", 5),
        ("iPhone 手机", 3),
        ("사랑해요 물을", 2),
        ("नमस्ते दुनिया", 2),
        ("party 🎉", 2),
        ("-- … --", 0),
    ],
)
def test_count_words(text, count):
    assert count_words(text) == count


def test_turkish_capital_i():
    assert turkish_words("ILIK İZMİR") == ["ılık", "izmir"]
    assert words("ILIK")[0] != "ılık"


@pytest.mark.parametrize(
    ("text", "phrase", "there"),
    [
        ("Keys, ASAP!", "asap", True),
        ("kayaks", "aya", False),
        ("请asap回复", "ASAP", True),
        ("这是垃圾邮件", "垃圾", True),
        ("これはスパムです", "スパム", True),
        ("cafe\u0301 noir", "CAFÉ", True),
        ("buy #ad now", "#ad", True),
        ("no C++ here", "c++", True),
        ("a b", "a  b", False),
        ("под замком", "зам", False),
    ],
)
def test_has_phrase(text, phrase, there):
    assert has_phrase(text, phrase) == there


@given(TEXTS, TEXTS.filter(fold_case))
def test_a_phrase_between_spaces_is_there(text, phrase):
    assert has_phrase(f"{text} {phrase} {text}", phrase)


@pytest.mark.parametrize("joiner", ["", "\u200d", "\u034f"])
def test_endless_marks_take_linear_time(joiner):
    marks = [chr(mark) for mark in range(0x300, 0x36F)]
    text = "a" + "".join(f"{marks[place * 7 % len(marks)]}{joiner}" for place in range(200_000))
    started = time.process_time()
    assert len(words(text)) == len(units(text)) == count_words(text) == 1
    assert time.process_time() - started < 5
