"""Media count as media: a photo's base64 is no prompt text, no query and no JSON."""

import dspy
import pydantic
import pytest

from r2p_dspy import R2P, All, Inputs, Outcome, Profile
from r2p_dspy.prompting.fit import shorten
from r2p_dspy.values.media import MEDIUM_TOKENS, split_media, text_and_media, without_media
from tests.film import HISTORY
from tests.scripted import STAGES, completion

BASE64 = "QUJD" * 100_000  # a photo of 400 kB
PHOTO = dspy.Image(f"data:image/png;base64,{BASE64}")
SOUND = dspy.Audio(data=BASE64, audio_format="wav")
FILE = dspy.File(file_data=f"data:application/pdf;base64,{BASE64}")


class Scene(pydantic.BaseModel):
    title: str
    still: dspy.Image


class Tag(dspy.Signature):
    """Choose the tag that this user would give to the film."""

    film: str = dspy.InputField()
    photo: dspy.Image = dspy.InputField()
    sounds: list[dspy.Audio] = dspy.InputField()
    script: dspy.File = dspy.InputField()
    scene: Scene = dspy.InputField()
    profile: Profile = dspy.InputField()
    tag: str = dspy.OutputField()


INPUTS = {
    "film": "the lighthouse keeper",
    "photo": PHOTO,
    "sounds": [SOUND, SOUND],
    "script": FILE,
    "scene": Scene(title="the wreck", still=PHOTO),
}
MEDIA = 5


def test_the_items_are_shown_beside_media(scripted):
    engine = scripted(completion(), context_window=16_000, count_tokens=len)
    answer = R2P(Tag, retriever=All())(**INPUTS, profile=HISTORY)
    assert (answer.tag, len(answer.retrieved), answer.truncated_chars) == ("romance", 2, 0)
    [request] = engine.requests
    assert sum(part.type != "text" for message in request.messages for part in message.parts) == MEDIA


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()])
def test_media_take_a_flat_allowance_of_the_window(adapter):
    class Engine:
        context_window = 2 * MEDIA * MEDIUM_TOKENS  # an answer may take half

        def complete(self, request):
            raise AssertionError("shortening asks no model")

        def count_tokens(self, text):
            return len(text)

    lm = dspy.LM("scripted/test", engine=Engine(), cache=False)
    signature, items = R2P(Tag).reason.signature, Profile.of(HISTORY).local()
    for limit, shown in ((100, 2), (MEDIA * MEDIUM_TOKENS, 0)):
        kept, _, _ = shorten(lm, adapter, signature, [], INPUTS, "profile", items, max_tokens=limit)
        assert len(kept) == shown


@pytest.mark.chat  # its demo is read from an answer in the chat adapter's format
def test_demos_with_media_are_shown(scripted):
    engine = scripted(completion(), completion())
    module = R2P(Tag, retriever=All())
    stages = dspy.ChatAdapter().parse(module.reason.signature, completion(requirements="a demo"))
    demo = dspy.Example(**INPUTS, profile=HISTORY, **stages)
    module.reason.demos, module.reason.demo_tokens = [demo], MEDIA * MEDIUM_TOKENS + 1000
    module(**INPUTS, profile=HISTORY)
    assert "a demo" in engine.prompts()[0]
    module.reason.demo_tokens = MEDIA * MEDIUM_TOKENS - 1
    module(**INPUTS, profile=HISTORY)
    assert "a demo" not in engine.prompts()[1]


@pytest.mark.parametrize("record", [Inputs(INPUTS, Profile.of(HISTORY)), Outcome(INPUTS, STAGES)], ids=["in", "out"])
def test_json_holds_no_media(record):
    text = record.to_json()
    assert "QUJD" not in text and "the wreck" in text
    assert type(record).from_json(text).fields["photo"] == "[medium]"


def test_a_plain_document_is_text():
    part = {"type": "document", "source": {"type": "text", "data": "It rained."}, "title": "Rain"}
    assert text_and_media([part, {"type": "image_url"}]) == ("Rain It rained.", 1)
    assert text_and_media("It rained.") == ("It rained.", 0)


def test_markers_in_json_are_read():
    rendered = dspy.adapters.utils.format_field_value(Tag.input_fields["scene"], INPUTS["scene"])
    text, media = split_media(rendered)
    assert (media, "the wreck" in text, "QUJD" in text) == (1, True, False)
    assert without_media(rendered) == '{"title": "the wreck", "still": "[medium]"}'
