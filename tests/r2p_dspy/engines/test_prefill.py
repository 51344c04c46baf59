"""What prompts begin with in common is computed once, and that changes no number."""

import pytest
import torch

from r2p_dspy.engines.local.batching import Batcher
from r2p_dspy.engines.local.prefill import _CHUNK, Prefill
from r2p_dspy.engines.local.rows import Row


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()


class CountingModel:
    """Counts the tokens that a model computes."""

    def __init__(self, model):
        self.model, self.forward, self.device, self.tokens = model, model.forward, model.device, 0

    def __call__(self, input_ids, **options):
        self.tokens += input_ids.shape[1]
        return self.model(input_ids=input_ids, **options)


def prompt(length, seed=0):
    return torch.randint(3, 600, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def remembered(prefill):
    """Tokens that are remembered."""
    return sum(chunk.tokens for chunk in prefill._known.values())


def fresh(model, ids):
    """The logits after a prompt when nothing is remembered."""
    return Prefill(model, 0)(ids)[1]


@pytest.mark.parametrize("length", [1, _CHUNK - 1, _CHUNK, _CHUNK + 1, 2 * _CHUNK, 3 * _CHUNK + 7])
@torch.inference_mode()
def test_chunked_prompt_equals_whole_prompt(model, length):
    ids = prompt(length)
    cache, logits = Prefill(model, 0)(ids)
    assert cache.get_seq_length() == length
    torch.testing.assert_close(logits, model(input_ids=torch.tensor([ids])).logits[:, -1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shared, remembered", [(_CHUNK - 1, 0), (_CHUNK, 1), (2 * _CHUNK + 50, 2)])
@torch.inference_mode()
def test_remembered_chunks_are_exact(model, shared, remembered):
    begun, ended = prompt(shared), prompt(90, seed=1)
    counting = CountingModel(model)
    prefill = Prefill(counting, 1000)
    prefill(begun + prompt(200, seed=2))
    cache, logits = prefill(begun + ended)
    assert counting.tokens == 2 * shared + 290 - remembered * _CHUNK
    assert torch.equal(logits, fresh(model, begun + ended))
    assert cache.get_seq_length() == shared + 90


@torch.inference_mode()
def test_chunk_is_known_by_all_tokens_before_it(model):
    first, second, last = (prompt(_CHUNK, seed) for seed in range(3))
    counting = CountingModel(model)
    prefill = Prefill(counting, 1000)
    prefill([*first, *last, 5])
    assert torch.equal(prefill([*second, *last, 5])[1], fresh(model, [*second, *last, 5]))
    assert counting.tokens == 2 * (2 * _CHUNK + 1)


@torch.inference_mode()
def test_oldest_chunks_are_dropped_last_to_first(model):
    counting = CountingModel(model)
    prefill = Prefill(counting, 3 * _CHUNK + 1)
    old, new = prompt(2 * _CHUNK + 1), prompt(2 * _CHUNK + 1, seed=1)
    for ids in (old, new, old):
        prefill(ids)
    assert counting.tokens == 3 * (2 * _CHUNK + 1) - _CHUNK  # the first of the old prompt's two chunks was kept
    assert remembered(prefill) <= 3 * _CHUNK + 1


@pytest.mark.parametrize("length", [1, _CHUNK, 2 * _CHUNK + 50])
@torch.inference_mode()
def test_known_prompt_is_not_computed_again(model, length):
    counting = CountingModel(model)
    prefill, ids = Prefill(counting, 1000), prompt(length)
    cache, logits = prefill(ids)
    again, same = prefill(ids)
    assert counting.tokens == length
    assert torch.equal(same, logits) and again.get_seq_length() == length
    for before, after in zip(cache.layers, again.layers, strict=True):
        assert torch.equal(before.keys, after.keys) and torch.equal(before.values, after.values)


@torch.inference_mode()
def test_returned_cache_is_a_copy(model):
    ids, prefill = prompt(_CHUNK + 9), Prefill(model, 1000)
    before = prefill(ids)[1]
    for layer in prefill(ids)[0].layers:
        layer.keys.zero_()
    assert torch.equal(prefill(ids)[1], before)


@torch.inference_mode()
def test_a_prompt_longer_than_memory_keeps_its_beginning(model):
    counting = CountingModel(model)
    prefill = Prefill(counting, 2 * _CHUNK)
    long = prompt(4 * _CHUNK + 9)
    for _ in range(3):
        logits = prefill(long)[1]
        assert remembered(prefill) <= 2 * _CHUNK
    assert counting.tokens == 3 * len(long) - 2 * 2 * _CHUNK
    assert torch.equal(logits, fresh(model, long))
    prefill.resize(_CHUNK)
    prefill(long[: 2 * _CHUNK])
    assert counting.tokens == 3 * len(long) - 2 * 2 * _CHUNK + _CHUNK
    prefill.resize(0)
    assert not prefill._known


@pytest.mark.parametrize("tokens", [1000, 6000])
def test_batch_survives_prompts_of_any_length_that_recur(model, tokens):
    batch = Batcher(model, {2}, cache_bytes=tokens * 2 * 2 * 1 * 32 * 4)
    assert batch._tokens == tokens
    lengths = (2000, 2000, 3000, 2000, 2000, 1500, 900, 900, 40, 900)

    def rows(limit):
        return [Row(prompt(length, seed=length), limit) for length in lengths]

    for together in ([[row] for row in rows(5)], [rows(5)], [rows(60)]):
        for some in together:
            assert all(row.generated for row in batch.run(some))
        assert remembered(batch._prefilled) <= tokens
    batch.close()


def test_shared_beginning_changes_no_answer(model):
    begun = prompt(2 * _CHUNK)
    rows = [Row(begun + prompt(9 + n, seed=n), 20, 1.0, seed=n) for n in range(1, 7)]
    alone = []
    for row in rows:
        batch = Batcher(model, {2})
        alone.append(batch.submit(Row(row.prompt, 20, 1.0, seed=row.seed)).wait().tokens)
        batch.close()
    together = Batcher(model, {2})
    assert [row.wait().tokens for row in [together.submit(row) for row in rows]] == alone
    together.close()
