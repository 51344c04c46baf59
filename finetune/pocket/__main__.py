"""`python -m finetune.pocket`: train the pocket model from random weights (hours on two cores)."""

from __future__ import annotations

import shutil
from pathlib import Path

import click


@click.command(context_settings={"show_default": True})
@click.option("--output", default="runs/pocket", help="Keep checkpoint, log and tokenizer here; a run in it continues.")
@click.option(
    "--steps",
    default=(4000, 1600, 1920),
    type=(click.IntRange(16),) * 3,
    help="Take this many steps in each phase; a step has up to 8192 tokens.",
)
@click.option(
    "--start",
    type=click.Path(exists=True, file_okay=False),
    help="Start from this finished model, and run only the phases it has not had.",
)
@click.option("--seed", default=0, help="Seed weights and rows.")
@click.option("--threads", default=0, help="Use this many CPU threads; 0 uses all cores.")
@click.option("--workers", default=0, help="Make rows ahead in this many processes; for a GPU, all cores but one.")
@click.option("--every", default=256, help="Save a checkpoint and evaluate after this many steps, a multiple of 16.")
@click.option("--student", is_flag=True, help="Train the student that `finetune` starts from; its last phase differs.")
@click.option("--install", is_flag=True, help="Install the model in r2p_dspy/pocket/ (the student: finetune/student/).")
def main(
    output: str,
    steps: tuple[int, ...],
    start: str | None,
    seed: int,
    threads: int,
    workers: int,
    every: int,
    student: bool,
    install: bool,
) -> None:
    """Train the pocket model, resuming from OUTPUT's last checkpoint, and export it to OUTPUT/model."""
    import torch

    from finetune.pocket.tokenizer import english, extend, load_or_train
    from finetune.pocket.train import Recipe, export, train

    if threads:
        torch.set_num_threads(threads)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = extend(load_or_train(Path(start) if start else directory / "tokenizer", seed))
    if start and (before := Path(start) / "training.jsonl").exists() and not (directory / "log.jsonl").exists():
        shutil.copy(before, directory / "log.jsonl")  # the log of its own phases
    recipe = Recipe(steps=steps, seed=seed, student=student)
    try:
        model = train(recipe, tokenizer, english(), directory, every, Path(start) if start else None, workers)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("stopped; the same command continues from the last checkpoint") from None
    shipped = Path("finetune/student" if student else "r2p_dspy/pocket")
    target = shipped if install else directory / "model"
    export(model, tokenizer, recipe, directory, target)
    click.echo(f"the model is in {target}")


if __name__ == "__main__":
    main()
