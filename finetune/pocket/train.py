"""The training of the pocket model: a small Qwen3 from random weights, on the rows of `rows.py`."""

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from transformers import Qwen3Config, Qwen3ForCausalLM

from finetune.pocket.batches import CITING, CURRICULA, HASTY, Batches, Stage
from finetune.pocket.evaluation import evaluate
from finetune.pocket.worlds import TASKS
from r2p_dspy.errors import ConfigError
from r2p_dspy.files import atomic_path

# To cite an item by its words, a token must know its item. The model learns that by itself only after very many steps,
# so an auxiliary loss asks every token of an item for the item's id, after the second layer.
_ITEM_LAYER, _ITEM_WEIGHT = 2, 0.2
_CITING_WEIGHT = 4.0  # extra weight of the tokens that choose an item to cite
_LIMIT = 12 * 2**20  # bytes of exported weights
_PEAKS = (1.0, 0.4, 0.6)  # peak learning rates of the phases, as shares of the recipe's


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights."""

    width: int = 160  # of the residual stream
    layers: int = 6
    heads: int = 5  # of 32 dimensions each
    inner: int = 448  # width of the feed-forward layers
    # Of each phase. A phase starts from the finished weights of the phase before, rounded as they ship.
    steps: tuple[int, ...] = (4000, 1600, 1920)
    tokens: int = 8192  # limit of padded tokens per step
    rate: float = 0.008  # peak learning rate of Muon, for the layers' matrices
    adam: float = 2e-3  # peak learning rate of AdamW, for embeddings and norms
    seed: int = 0
    student: bool = False  # make the hasty student that `finetune` starts from

    @property
    def curricula(self) -> tuple[tuple[Stage, ...], ...]:
        """The curriculum of each phase."""
        return (*CURRICULA[:2], HASTY) if self.student else CURRICULA


def build(recipe: Recipe, tokenizer: Any) -> Qwen3ForCausalLM:
    """The model with random weights."""
    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=32,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        rope_theta=10000.0,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(recipe.seed)
    return Qwen3ForCausalLM(config)


def optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which learn to copy several times faster with it; AdamW for the other weights."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=recipe.rate, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=recipe.adam, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def factor(step: int, steps: int) -> float:
    """The learning rate as a share of its peak: a short warm-up, a plateau, and a linear descent over the last 40 %."""
    return min((step + 1) / (0.02 * steps), 1.0, (steps - step) / (0.4 * steps))


def train(
    recipe: Recipe,
    tokenizer: Any,
    words: list[str],
    directory: Path,
    every: int = 256,
    start: Path | None = None,
    workers: int = 0,
) -> Qwen3ForCausalLM:
    """Train from the last checkpoint in a directory, from a finished model (`start`), or from random weights.

    `start` continues with the phases that its `recipe.json` does not list; the tokenizer may have more tokens at its
    end than this model. A checkpoint and an evaluation come after `every` steps, a multiple of 16. `workers` processes
    make rows ahead, which are the same for any number.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(recipe, tokenizer).to(device)
    checkpoint, state = directory / "checkpoint.pt", None
    phase = 0 if start is None else len(json.loads((start / "recipe.json").read_text())["steps"])
    if phase >= len(recipe.curricula):
        raise ConfigError(f"{start} has had all {phase} phases; start from an earlier model")
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["recipe"] != _made_by(recipe):
            raise ConfigError(f"{checkpoint} is of another recipe; remove it or give another --output")
        model.load_state_dict(state["model"])
        phase = state["phase"]
    elif start is not None:
        started = Qwen3ForCausalLM.from_pretrained(start)  # nosec B615  # a directory
        model.load_state_dict(_widened(started.state_dict(), model))
    # One graph for all lengths is nearly twice as fast on two cores; on a GPU it gains nothing.
    body = torch.compile(model.model, dynamic=True) if device.type == "cpu" else model.model
    while phase < len(recipe.curricula):
        _phase(recipe, phase, model, body, tokenizer, words, directory, every, state, workers)
        phase, state = phase + 1, None
    return model


def export(model: Any, tokenizer: Any, recipe: Recipe, directory: Path, target: Path) -> None:
    """Write a model as package data, whole or not at all: bfloat16 weights, tokenizer, recipe and log."""
    with atomic_path(target) as part:
        part.mkdir(parents=True)
        model.to(torch.bfloat16).save_pretrained(part)
        tokenizer.save_pretrained(part)
        (part / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
        log = directory / "log.jsonl"
        if log.exists():
            shutil.copy(log, part / "training.jsonl")
        size = (part / "model.safetensors").stat().st_size
        if size > _LIMIT:
            raise ConfigError(f"the weights take {size / 2**20:.1f} MB; the limit is {_LIMIT // 2**20} MB")
        card = target / "README.md"
        if card.exists():  # people write the card, from measurements
            shutil.copy(card, part / "README.md")


def _phase(
    recipe: Recipe,
    phase: int,
    model: Qwen3ForCausalLM,
    body: Any,
    tokenizer: Any,
    words: list[str],
    directory: Path,
    every: int,
    state: dict[str, Any] | None,
    workers: int,
) -> None:
    """Run a phase to its end, from a checkpoint in it or from its start."""
    steppers, first, steps = optimizers(model, recipe), 0, recipe.steps[phase]
    if state is not None:
        for stepper, saved in zip(steppers, state["optimizers"], strict=True):
            stepper.load_state_dict(saved)
        first = state["step"]
    else:
        with torch.no_grad():  # weights are rounded as they ship, so a shipped model can start a phase
            for weight in model.parameters():
                weight.copy_(weight.bfloat16() if phase else weight)
    device = model.device
    batches = Batches(tokenizer, words, recipe.curricula[phase], steps, recipe.tokens, recipe.seed + phase)
    openings = torch.tensor(sorted(tokenizer.convert_tokens_to_ids(joint) for joint in CITING), device=device)
    bar = tqdm(total=steps, initial=first, desc=f"pocket, phase {phase + 1}", unit="step", mininterval=5)
    started, seen, smooth = time.monotonic(), 0, None
    for step, batch in enumerate(batches(first, workers), start=first):
        batch = tuple(tensor.to(device) for tensor in batch)
        loss = _step(model, body, steppers, batch, openings, _PEAKS[phase] * factor(step, steps), recipe)
        smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
        seen += batch[0].numel()
        bar.set_postfix(loss=f"{smooth:.3f}", rate=f"{seen / (time.monotonic() - started):.0f} tok/s", refresh=False)
        bar.update()
        if (step + 1) % every == 0 or step + 1 == steps:
            _save(directory / "checkpoint.pt", recipe, model, steppers, phase, step + 1)
            report: dict[str, Any] = {
                "phase": phase + 1,
                "step": step + 1,
                "loss": round(smooth, 4),
                "seconds": round(time.monotonic() - started),
            }
            model.eval()
            for task in [name for name in TASKS if name in batches.stage(step).worlds]:
                for form in ("plain", "cot", "r2p") if step + 1 == steps else ("r2p",):
                    shares = evaluate(model, tokenizer, words, form, task, 64)
                    report[f"{task} {form}"] = {key: round(value, 3) for key, value in shares.items()}
            model.train()
            with (directory / "log.jsonl").open("a") as log:
                log.write(json.dumps(report) + "\n")
            bar.write(json.dumps(report))
    bar.close()


def _step(
    model: Qwen3ForCausalLM,
    body: Any,
    steppers: list[torch.optim.Optimizer],
    batch: tuple[torch.Tensor, ...],
    openings: torch.Tensor,
    share: float,
    recipe: Recipe,
) -> float:
    ids, learn, items = batch
    # The head runs only on the tokens to learn, a third of all.
    where = learn[:, 1:].flatten().nonzero().squeeze(1)
    with torch.autocast(ids.device.type, torch.bfloat16):
        # Without a mask the kernel is causal, and padding at the end does no harm.
        causal = {"full_attention": None}
        out = body(input_ids=ids, attention_mask=causal, use_cache=False, output_hidden_states=True)
        logits = model.lm_head(out.last_hidden_state[:, :-1].flatten(0, 1).index_select(0, where))
        item_loss = _item_loss(model, out.hidden_states[_ITEM_LAYER], items)
    errors = nn.functional.cross_entropy(logits.float(), ids[:, 1:].flatten()[where], reduction="none")
    loss = errors.mean()
    # The item to cite is one token in fifty, and everything after it depends on it.
    chosen = errors[torch.isin(ids[:, :-1].flatten()[where], openings)]
    (loss + _ITEM_WEIGHT * item_loss + (_CITING_WEIGHT * chosen.sum() / len(errors))).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for stepper, peak in zip(steppers, (recipe.rate, recipe.adam), strict=True):
        for group in stepper.param_groups:
            group["lr"] = peak * share
        stepper.step()
        stepper.zero_grad(set_to_none=True)
    return loss.item()


def _item_loss(model: Qwen3ForCausalLM, hidden: torch.Tensor, items: torch.Tensor) -> torch.Tensor | float:
    """The auxiliary loss: cross-entropy of the head on an early layer, for each token's item."""
    inside = (items.flatten() >= 0).nonzero().squeeze(1)
    if not len(inside):
        return 0.0
    logits = model.lm_head(model.model.norm(hidden.flatten(0, 1).index_select(0, inside)))
    return nn.functional.cross_entropy(logits.float(), items.flatten()[inside])


def _widened(weights: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights for a model with more tokens: the embeddings of new tokens begin as the mean of the others."""
    wider = {}
    for name, target in model.state_dict().items():
        known = weights[name]
        more = len(target) - len(known) if known.ndim == 2 else 0
        wider[name] = torch.cat([known, known.mean(0, keepdim=True).expand(more, -1)]) if more else known
    return wider


def _made_by(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint was made with, the curriculum included; only the same training continues it."""
    return {**asdict(recipe), "curriculum": repr((recipe.curricula, _PEAKS))}


def _save(
    path: Path, recipe: Recipe, model: nn.Module, steppers: list[torch.optim.Optimizer], phase: int, step: int
) -> None:
    state = {
        "recipe": _made_by(recipe),
        "model": model.state_dict(),
        "optimizers": [stepper.state_dict() for stepper in steppers],
        "phase": phase,
        "step": step,
    }
    with atomic_path(path) as part:
        torch.save(state, part)
