"""How well a pocket model does in each format while it trains: answers, evidence, and what parses."""

from typing import Any

import dspy
import torch
from dspy.utils.exceptions import AdapterParseError

from finetune.pocket.rows import Rows, signature
from finetune.pocket.worlds import WORLDS
from programs.data.personas.world import history
from r2p_dspy.checks import BUILT_IN, judge
from r2p_dspy.outcome import Inputs, Outcome
from r2p_dspy.retrieval.bm25 import BM25
from r2p_dspy.scoring.composite import PARTS
from r2p_dspy.template import TEMPLATE


@torch.inference_mode()
def complete(model: Any, tokenizer: Any, conversations: list[list[dict[str, str]]], most: int) -> list[str]:
    """Greedy completions of conversations, in batches of 64."""
    texts = []
    for start in range(0, len(conversations), 64):
        prompts = [
            tokenizer.apply_chat_template(one, add_generation_prompt=True, tokenize=False)
            for one in conversations[start : start + 64]
        ]
        batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        batch = {key: batch[key].to(model.device) for key in ("input_ids", "attention_mask")}
        out = model.generate(**batch, max_new_tokens=most, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        texts += tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def sit(model: Any, tokenizer: Any, words: list[str], form: str, task: str, count: int, k: int = 4) -> dict[str, float]:
    """Examine one format on personas of the role `pilot`, which no training and no report uses.

    Returns:
        Shares in [0, 1]: `right` answers, `parsed` completions, `valid` evidence and `teacher` (the teacher's own
        evidence ids; both only for formats with stages).
    """
    rows, spec = Rows(words, seed=1, role="pilot"), WORLDS[task].task
    adapter, asked = dspy.ChatAdapter(), signature(task, form)
    cases = [rows.case(task) for _ in range(count)]
    retrieve = BM25(k=k, text=spec.item_text)
    queries = [spec.query_text({spec.question: case.question}) for case in cases]
    shown = [retrieve(query, history(spec, case)).local() for query, case in zip(queries, cases, strict=True)]
    prompts = [
        adapter.format(asked, [], {spec.question: case.question, spec.profile: items})
        for case, items in zip(cases, shown, strict=True)
    ]
    texts = complete(model, tokenizer, prompts, {"plain": 48, "cot": 140}.get(form, 240))
    tally = {"right": 0.0, "parsed": 0.0, "valid": 0.0, "teacher": 0.0}
    for case, items, text in zip(cases, shown, texts, strict=True):
        try:
            fields = adapter.parse(asked, text)
        except AdapterParseError:
            continue
        tally["parsed"] += 1 / count
        tally["right"] += (fields[spec.answer] == case.answer) / count
        if form == "r2p":
            stages = {stage.name: fields[stage.name] for stage in TEMPLATE.leaves()}
            outcome = Outcome(fields={spec.answer: fields[spec.answer]}, stages=stages, answers=(spec.answer,))
            verdicts = judge(BUILT_IN, Inputs(fields={}, items=items), outcome)
            tally["valid"] += all(one.ok for one in verdicts if one.check in PARTS["evidence"]) / count
            right = [one.item for one in WORLDS[task].teach(case, items)["evidence"]]
            tally["teacher"] += ([one.item for one in fields["evidence"]] == right) / count
    return tally if form == "r2p" else {key: tally[key] for key in ("right", "parsed")}
