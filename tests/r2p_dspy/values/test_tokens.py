"""Estimates of tokens stay above what real tokenizers count, in any language."""

import base64
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2p_dspy.values.tokens import estimate_tokens

tiktoken = pytest.importorskip("tiktoken")

# The vocabularies of GPT-4 (cl100k) and GPT-4o (o200k), as LiteLLM ships them.
VOCABULARIES = {
    "gpt-4": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
    "gpt-4o": "fb374d419588a4632f3f557e76b4b70aebbca790",
}
PIECES = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]|\s+(?!\S)|\s"
)
SENTENCES = {
    "English": "The keeper of a lighthouse finds a wreck on the rocks, and learns to live with what the sea leaves.",
    "German": "Der Leuchtturmwärter findet ein Wrack und lernt, mit dem zu leben, was das Meer zurücklässt.",
    "French": "Le gardien du phare découvre une épave sur les rochers et apprend à vivre avec ce que la mer a laissé.",
    "Polish": "Latarnik znajduje wrak na skałach i uczy się żyć z tym, co pozostawiło morze. Zażółć gęślą jaźń.",
    "Turkish": "Deniz feneri bekçisi kayalıklarda bir enkaz bulur ve denizin bıraktıklarıyla yaşamayı öğrenir.",
    "Vietnamese": "Người gác hải đăng tìm thấy một xác tàu trên đá và học cách sống với những gì biển để lại.",
    "Russian": "Смотритель маяка находит обломки корабля на скалах и учится жить с тем, что оставило море.",
    "Greek": "Ο φαροφύλακας βρίσκει ένα ναυάγιο στα βράχια και μαθαίνει να ζει με ό,τι άφησε η θάλασσα.",
    "Hebrew": "שומר המגדלור מוצא שברי ספינה על הסלעים ולומד לחיות עם מה שהים הותיר אחריו.",
    "Arabic": "يجد حارس المنارة حطام سفينة على الصخور ويتعلم أن يعيش مع ما تركه البحر وراءه.",
    "Persian": "نگهبان فانوس دریایی لاشه‌ای را روی صخره‌ها پیدا می‌کند و با آنچه دریا گذاشته زندگی می‌کند.",
    "Hindi": "प्रकाशस्तंभ का रखवाला चट्टानों पर एक टूटा हुआ जहाज़ पाता है और उसके साथ जीना सीखता है।",
    "Bengali": "বাতিঘরের রক্ষক পাথরের উপর একটি ভাঙা জাহাজ খুঁজে পান এবং তা নিয়ে বাঁচতে শেখেন।",
    "Tamil": "கலங்கரை விளக்கக் காவலர் பாறைகளில் ஒரு உடைந்த கப்பலைக் கண்டு வாழக் கற்றுக்கொள்கிறார்.",
    "Thai": "คนเฝ้าประภาคารพบซากเรืออับปางบนโขดหินและเรียนรู้ที่จะอยู่กับสิ่งที่ทะเลทิ้งไว้",
    "Khmer": "អ្នកយាមប៉មភ្លើងហ្វារបានរកឃើញកប៉ាល់លិចនៅលើថ្ម",
    "Burmese": "မီးပြတိုက်စောင့်သည် ကျောက်ဆောင်များပေါ်တွင် သင်္ဘောပျက်တစ်စင်းကို တွေ့ရှိသည်။",
    "Georgian": "შუქურის მცველი კლდეებზე პოულობს ჩაძირულ გემს და სწავლობს ცხოვრებას.",
    "Chinese": "灯塔看守人在礁石上发现了一艘失事的船，并学会了与大海留下的一切共同生活。",
    "Traditional Chinese": "燈塔看守人在礁石上發現了一艘失事的船，並學會了與大海留下的一切共同生活。",
    "Japanese": "灯台守は岩の上で難破船を見つけ、海が残していったものと共に生きることを学ぶ。",
    "Korean": "등대지기는 바위 위에서 난파선을 발견하고 바다가 남기고 간 것과 함께 살아가는 법을 배운다.",
    "emoji": "🎉🎉😀👍🏽❤️👨‍👩‍👧🇩🇪🔥✨",
}


@pytest.fixture(scope="module", params=VOCABULARIES)
def tokenizer(request):
    folder = Path(find_spec("litellm").origin).parent / "litellm_core_utils/tokenizers"
    lines = (line.split() for line in (folder / VOCABULARIES[request.param]).read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    return tiktoken.Encoding(request.param, pat_str=PIECES, mergeable_ranks=ranks, special_tokens={})


@pytest.mark.parametrize("language", SENTENCES)
def test_real_text_takes_no_more_tokens_than_estimated(tokenizer, language):
    text = SENTENCES[language]
    assert len(tokenizer.encode_ordinary(text)) <= estimate_tokens(text)


@given(st.text(st.characters(codec="utf-8")))
def test_an_estimate_is_between_characters_and_bytes(text):
    assert len(text) / 3.5 <= estimate_tokens(text) * (1 + 1e-9) and estimate_tokens(text) <= len(text.encode())


@given(st.text(), st.text())
def test_parts_add_up(first, second):
    assert estimate_tokens(first + second) == pytest.approx(estimate_tokens(first) + estimate_tokens(second))


def test_plain_english_is_estimated_as_ever_and_broken_text_too():
    text = SENTENCES["English"]
    assert estimate_tokens(text) == len(text) / 3.5 and estimate_tokens(text, 4) == len(text) / 4
    assert estimate_tokens("\ud800") > 0
