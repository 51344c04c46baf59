"""The evaluation of a pocket model in training: right answers, valid evidence and parsed completions by format."""

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
def complete(model: Any, tokenizer: Any, conversations: list[list[dict[str, str]]], max_tokens: int) -> list[str]:
    """Greedy completions of conversations, in batches of 64."""
    texts = []
    for start in range(0, len(conversations), 64):
        prompts = [
            tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            for messages in conversations[start : start + 64]
        ]
        batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        batch = {key: batch[key].to(model.device) for key in ("input_ids", "attention_mask")}
        generated = model.generate(
            **batch, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        texts += tokenizer.batch_decode(generated[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def evaluate(
    model: Any, tokenizer: Any, words: list[str], form: str, task: str, count: int, k: int = 4
) -> dict[str, float]:
    """Evaluate one format on held-out personas, which no training and no report uses.

    Returns shares of `right` answers and `parsed` completions; for the format `r2p` also of `valid` evidence, and of
    evidence that cites the same items as the lesson (`teacher`).
    """
    rows, spec = Rows(words, seed=1, role="held-out"), WORLDS[task].task
    adapter, sig = dspy.ChatAdapter(), signature(task, form)
    cases = [rows.case(task) for _ in range(count)]
    retrieve = BM25(k=k, text=spec.item_text, tokenize=str.split)
    queries = [spec.query_text({spec.question: case.question}) for case in cases]
    shown = [retrieve(query, history(spec, case)).local() for query, case in zip(queries, cases, strict=True)]
    prompts = [
        adapter.format(sig, [], {spec.question: case.question, spec.profile: items})
        for case, items in zip(cases, shown, strict=True)
    ]
    texts = complete(model, tokenizer, prompts, {"plain": 48, "cot": 140}.get(form, 240))
    tally = {"right": 0.0, "parsed": 0.0, "valid": 0.0, "teacher": 0.0}
    for case, items, text in zip(cases, shown, texts, strict=True):
        try:
            fields = adapter.parse(sig, text)
        except AdapterParseError:
            continue
        tally["parsed"] += 1 / count
        tally["right"] += (fields[spec.answer] == case.answer) / count
        if form == "r2p":
            stages = {stage.name: fields[stage.name] for stage in TEMPLATE.leaves()}
            outcome = Outcome(fields={spec.answer: fields[spec.answer]}, stages=stages, answers=(spec.answer,))
            verdicts = judge(BUILT_IN, Inputs(fields={}, items=items), outcome)
            tally["valid"] += all(verdict.ok for verdict in verdicts if verdict.check in PARTS["evidence"]) / count
            right = [evidence.item for evidence in WORLDS[task].teach(case, items)["evidence"]]
            tally["teacher"] += ([evidence.item for evidence in fields["evidence"]] == right) / count
    return tally if form == "r2p" else {key: tally[key] for key in ("right", "parsed")}
