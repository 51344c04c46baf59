"""Constrained rollouts by the vLLM server of TRL's server mode."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, NamedTuple

from accelerate.utils import broadcast_object_list, gather_object

from finetune.rollout.forms import Forms, Prompt, grammars_of
from finetune.student import Student
from r2p_dspy.engines.chat import OPEN
from r2p_dspy.errors import ConfigError

_REQUESTS = 64  # at a time, as TRL's client sends them


class Completion(NamedTuple):
    """A completion as TRL takes it."""

    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float]
    env_mask: list[int]


class ServedRollouts:
    """A `rollout_func` as `ConstrainedRollouts` is, for TRL's vLLM mode "server".

    TRL's trainer has one form for all prompts; its client takes one for each request. The log-probabilities of the
    server are those under the grammar (`vllm serve --logprobs-mode processed_logprobs`). TRL's correction for another
    engine then weighs each chosen token by how likely the model was to stay within the grammar.

    Args:
        student, forms: see `ConstrainedRollouts`.
    """

    def __init__(self, student: Student, forms: Forms) -> None:
        self._student, self._forms, self._grammars = student, forms, grammars_of(student)

    def __call__(self, prompts: Sequence[Prompt], trainer: Any) -> dict[str, Any]:
        """One completion for each prompt. Raises ConfigError where the server does not follow a grammar."""
        # The main process alone has a client, and the answers of a group may belong to several processes.
        shared: list[Any] = [None]
        every_prompt = gather_object(list(prompts))
        if trainer.accelerator.is_main_process:
            shared = [self.complete(every_prompt, trainer)]
        broadcast_object_list(shared)
        start = trainer.accelerator.process_index * len(prompts)
        columns = zip(*shared[0][start : start + len(prompts)], strict=True)
        output: dict[str, Any] = {name: list(column) for name, column in zip(Completion._fields, columns, strict=True)}
        return {**output, "left_out": [1 - sum(mask) / len(mask) for mask in output["env_mask"]]}

    def complete(self, prompts: Sequence[Prompt], trainer: Any) -> list[Completion]:
        """Ask the server; prompts that follow each other and are equal are one request."""
        groups = [(prompt, len([*equal])) for prompt, equal in groupby(prompts)]
        with ThreadPoolExecutor(min(_REQUESTS, len(groups))) as executor:
            answered = executor.map(lambda group: self._group(group[0], group[1], trainer), groups)
        return [completion for completions in answered for completion in completions]

    def _group(self, prompt: Prompt, count: int, trainer: Any) -> list[Completion]:
        ids, inside = self._student.prompt(prompt)
        grammar = self._forms.of(prompt).grammar(f"{OPEN}\n" if inside else "", whole=True).source
        arguments = trainer.args
        output = trainer.vllm_generation.vllm_client.generate(
            prompts=[ids],
            n=count,
            repetition_penalty=arguments.repetition_penalty,
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            top_k=arguments.top_k,
            min_p=arguments.min_p or 0.0,
            max_tokens=arguments.max_completion_length,
            generation_kwargs={**(arguments.generation_kwargs or {}), "structured_outputs": {"grammar": grammar}},
        )
        return [
            Completion(ids, tokens, [best[0] for best in logprobs], self._chosen(grammar, tokens))
            for tokens, logprobs in zip(output["completion_ids"], output["logprobs"], strict=True)
        ]

    def _chosen(self, grammar: str, tokens: Sequence[int]) -> list[int]:
        """For each token of an answer 0 where the grammar left no other text, else 1; servers do not tell."""
        matcher, texts, mask = self._grammars.matcher(grammar), self._grammars.vocabulary.texts, []
        for token in tokens:
            if token in self._student.end_tokens:
                mask.append(int(not matcher.is_stopped()))
                break
            mask.append(int(not matcher.compute_ff_bytes().startswith(texts[token])))
            if not matcher.consume_token(token):
                raise ConfigError(
                    "the vLLM server does not hold answers to the grammar that it is sent: start it with "
                    '--structured-outputs-config \'{"backend": "guidance"}\', or leave --constrain-rollouts out'
                )
        return mask
