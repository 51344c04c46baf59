"""Supervised fine-tuning on rows of chat, with TRL's `SFTTrainer`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.settings import SFT
from r2p_dspy.engines.weights import fingerprint, locate
from r2p_dspy.errors import ConfigError
from r2p_dspy.files import digest

if TYPE_CHECKING:
    from datasets import Dataset

    from finetune.evaluation import Evaluation
    from finetune.training import Tick


def train_sft(
    student: str | Path,
    rows: Dataset | Sequence[Mapping[str, Any]],
    settings: SFT,
    output: Path,
    *,
    resume: bool = False,
    tick: Tick | None = None,
    exam: Evaluation | None = None,
    thinks: bool | None = None,
) -> Path:
    """Train a student to write the completions of rows; the loss is on these alone.

    Args:
        student: a model's directory, a hub name, or `pocket`.
        rows: `prompt` and `completion`, each a list of messages (`role`, `content`); other columns are left out.
        settings: of the training.
        output: directory of checkpoints, of TensorBoard's log, and of the finished model.
        resume: go on from the last checkpoint that is there, or take the finished model.
        tick: called with (step, steps) after each step; what it raises stops the training, and the last checkpoint
            stays.
        exam: how good the student is on dev, every so many steps; the best model is kept, and training stops when it
            gets no better. None trains to the end.
        thinks: whether the student's template is told to think; None leaves it to the template.

    Returns:
        The directory of the finished model with its tokenizer: `output/model`; with LoRA it is merged, and the adapter
        lies in `output/model/adapter`.

    Raises:
        ValueError: (RunError) one line on a student that cannot be trained, no rows, rows that do not fit its context,
            checkpoints of another training, a loss that is not a number, or too little memory.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from finetune.student import Student, finished
    from finetune.training import arguments, checkpoint, fit

    if not isinstance(rows, Dataset):
        rows = Dataset.from_list([{"prompt": [*row["prompt"]], "completion": [*row["completion"]]} for row in rows])
    if not len(rows):
        raise ConfigError("there are no rows to train on")
    taught = Student.load(student, lora=bool(settings.lora), thinks=thinks)
    made_by = {"method": "sft", "student": known(taught.source), "rows": rows_digest(rows), **asdict(settings)}
    last = checkpoint(output, made_by, resume)
    if finished(output / "model"):
        return output / "model"
    encoded = rows.map(taught.encode, remove_columns=rows.column_names, desc=None)
    taught.check_fits(max(map(len, encoded["input_ids"])), 0)
    config = SFTConfig(
        **arguments(taught, settings, output, dev=exam is not None, begins=last is None),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        warmup_steps=settings.warmup,
        lr_scheduler_type="cosine",
        completion_only_loss=True,
        max_length=None,
    )
    return fit(
        SFTTrainer,
        taught,
        settings,
        output,
        last=last,
        tick=tick,
        exam=exam,
        knobs="lower --batch, take --lora, or a smaller student",
        args=config,
        train_dataset=encoded,
    )


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """Sixteen hex digits that change with the prompts and completions of rows, or their order."""
    return digest(json.dumps([row["prompt"], row.get("completion")], sort_keys=True).encode() for row in rows)


def known(source: str) -> str:
    """A student as a checkpoint knows it: by its weights where they lie here."""
    where = locate(source)
    return fingerprint(where) if Path(where).is_dir() else where
