"""How many tokens a text takes, where no tokenizer is at hand."""

import re

# Chinese, Japanese and Korean characters: of the tokenizers in use, the coarse ones take 1.5 tokens for one.
_CJK = re.compile("[\u3000-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef]")
_TOKENS_PER_CJK = 1.5
_TOKENS_PER_BYTE = 0.75  # of other scripts, and of emoji


def estimate_tokens(text: str, characters_per_token: float = 3.5) -> float:
    """Estimate the tokens of a text from its bytes, rather too many than too few.

    ASCII takes a token for so many characters; a Chinese, Japanese or Korean character takes 1.5 tokens; any other
    character takes 0.75 tokens for each of its bytes in UTF-8. Natural text of 24 languages took no more with the
    tokenizers of GPT-4 and GPT-4o; scripts that a tokenizer does not know, such as Ethiopic, take up to one a byte.

    Args:
        text: any text.
        characters_per_token: of ASCII text. English has about four.

    Examples:
        >>> estimate_tokens("a storm"), estimate_tokens("灯塔"), estimate_tokens("маяк")
        (2.0, 3.0, 6.0)
    """
    if text.isascii():
        return len(text) / characters_per_token
    ascii_characters = len(text.encode("ascii", "ignore"))
    cjk = len(_CJK.findall(text))
    other_bytes = len(text.encode("utf-8", "surrogatepass")) - ascii_characters - 3 * cjk
    return ascii_characters / characters_per_token + _TOKENS_PER_CJK * cjk + _TOKENS_PER_BYTE * other_bytes
