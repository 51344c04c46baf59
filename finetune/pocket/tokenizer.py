"""The pocket model's tokenizer: byte-level BPE on English word frequencies, plus DSPy's fixed lines as tokens.

It writes any text (as bytes); English takes under two tokens a word. A fixed line of a prompt (field markers, JSON
schemas, reminders) is one token, which makes prompts a fifth as long. Only the chat markers are special tokens; fixed
lines decode as ordinary text.
"""

import itertools
import random
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import dspy
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from wordfreq import top_n_list, word_frequency

from finetune.pocket.rows import FORMATS, Rows, signature
from finetune.pocket.worlds import TASKS
from r2p_dspy.engines.chat import CLOSE, OPEN
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.feedback_turns import turns
from r2p_dspy.prompting.tags import guide, render
from r2p_dspy.template import TEMPLATE, TEMPLATES, Template

VOCABULARY = 5120
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
_END, _PAD = "<|end|>", "<|pad|>"
_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if not (loop.last and continue_final_message) %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# JSON's joints between the texts of items, evidence, preferences, verifications and candidates.
_JOINTS = (
    '{"item": "', '", "description": "', '", "text": "', '", "title": "', '", "label": "', '"}\n{"item": "', '"}',
    '[{"item": "', '", "quote": "', '"}, {"item": "', '"}]', '[{"statement": "', '", "items": ["', '", "',
    '"], "label": "', '"], "label": null}', '"], "label": null}, {"statement": "', '"], "label": null}]',
    '"}, {"statement": "', '{"approved": true, "reason": "', '{"approved": false, "reason": "', "]", '", "date": "',
    '{"candidate": ', '}\n{"candidate": ', '", "evidence": ', ', "preferences": ',
)  # fmt: skip
# The tasks of the first two phases. The other tasks and the brief template add tokens at the end, so tokens keep their
# numbers.
_FIRST = ("lamp2", "lamp3", "lamp4")
_LATER_JOINTS = ('", "abstract": "',)


def english(count: int = 30_000) -> list[str]:
    """The most frequent English words of letters alone."""
    return [word for word in top_n_list("en", count) if re.fullmatch(r"[a-z]{2,}", word)]


def fixed_lines(tasks: Iterable[str] = TASKS, templates: Collection[Template] = tuple(TEMPLATES.values())) -> list[str]:
    """The fixed parts of prompts, for some tasks and templates, longest first."""
    adapter, fixed = dspy.ChatAdapter(), set(_JOINTS)
    for name in tasks:
        task = TASKS[name]
        for form, template in itertools.product(FORMATS, templates):
            sig = signature(name, form, template)
            inputs = {task.question: "\0", task.profile: Profile(), "candidates": "\0"}
            system, user = adapter.format(sig, [], {name: inputs[name] for name in sig.input_fields})
            answer = adapter.format_assistant_message_content(sig, dict.fromkeys(sig.output_fields, "\0"))
            retry = turns(adapter, sig, "\0", "\0")[1]["content"]
            for message in (user["content"].replace("(empty)", "\0"), answer.rstrip("\n"), retry):
                fixed.update(part for part in message.split("\0") if len(part) > 3)
            body, _, _ = system["content"].partition("objective is: ")
            fixed.update(re.findall(r".*\n+", body))
            fixed.add("In adhering to this structure, your objective is: \n        ")
            fixed.update((sig.instructions, f', "{task.answer}": "'))
    for template in templates:
        stages = render(template, {stage.name: "\0" for stage in template.leaves()})
        thought, guidance = f"{OPEN}\n{stages}\n{CLOSE}\n\n", f"\n\n{guide(template)}\n"
        for text, line in ((thought, r"\n?</\w+>\n+"), (thought, r"<\w+>\n"), (guidance, r"\n*.+\n")):
            fixed.update(re.findall(line, text))
    fixed.update(("\n(Wait. ", "(empty)"))
    return sorted(fixed, key=lambda line: (-len(line), line))


def corpus(words: list[str], lines: int, seed: int) -> Iterator[str]:
    """English words with the frequencies of English, and texts of the persona world."""
    rng = random.Random(f"tokenizer {seed}")
    weights = list(itertools.accumulate(word_frequency(word, "en") for word in words))
    rows = Rows(words, seed)
    for _ in range(lines):
        line = rng.choices(words, cum_weights=weights, k=12)
        yield " " + " ".join(word.capitalize() if rng.random() < 0.15 else word for word in line)
        if rng.random() < 0.12:
            case = rows.case(rng.choice(("lamp2", "lamp3")))
            yield case.question
            yield " ".join(f'"{cue.word} {case.answer}"' for cue in case.cues)
    from finetune.pocket.teach import CUES

    labels = {word for name in _FIRST for label in TASKS[name].labels for word in label.split()}
    everyday = sorted(CUES | labels)
    for word in everyday * 200:
        yield f'"{word} {word}'


def train(seed: int = 0) -> PreTrainedTokenizerFast:
    """Train the tokenizer (about ten seconds on one core)."""
    words = english()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [_PAD, *_ROLES, _END]
    lines = fixed_lines(_FIRST, (TEMPLATE,))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(lines),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(words, 150_000, seed), trainer)
    tokenizer.add_tokens([AddedToken(line, normalized=False, special=False) for line in lines])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_END,
        pad_token=_PAD,
        chat_template=_TEMPLATE,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )


def extend(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Add the fixed lines of all tasks and templates that the tokenizer lacks; they get the next numbers."""
    known = tokenizer.get_vocab()
    lines = [line for line in (*fixed_lines(), *_LATER_JOINTS) if line not in known]
    tokenizer.add_tokens([AddedToken(line, normalized=False, special=False) for line in lines])
    return tokenizer


def load_or_train(directory: Path, seed: int = 0) -> PreTrainedTokenizerFast:
    """The tokenizer in a directory; trained and saved there if there is none."""
    if not (directory / "tokenizer.json").exists():
        train(seed).save_pretrained(directory)
    return PreTrainedTokenizerFast.from_pretrained(directory)  # nosec B615  # a directory
