"""`python -m finetune.pocket`: make the pocket model from nothing (hours on two cores)."""

from __future__ import annotations

import shutil
from pathlib import Path

import click


@click.command(context_settings={"show_default": True})
@click.option("--output", default="runs/pocket", help="Where checkpoint, log and tokenizer live; a run there goes on.")
@click.option(
    "--steps",
    default=(4000, 1600, 1920),
    type=(click.IntRange(16),) * 3,
    help="Of the optimizer in each phase, of up to 8192 tokens each.",
)
@click.option(
    "--start",
    type=click.Path(exists=True, file_okay=False),
    help="A finished model: only the phases that it has not been through, from its weights.",
)
@click.option("--seed", default=0, help="Seeds weights and rows.")
@click.option("--threads", default=0, help="Of the CPU; 0 takes all cores.")
@click.option("--workers", default=0, help="Processes that make rows ahead; for a GPU, all cores but one.")
@click.option("--every", default=256, help="Steps between checkpoints and exams, a multiple of 16.")
@click.option("--student", is_flag=True, help="The student that `finetune` starts from: another last phase.")
@click.option(
    "--install", is_flag=True, help="Put the finished model into r2p_dspy/pocket/ (the student: finetune/student/)."
)
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

    from finetune.pocket.export import export
    from finetune.pocket.tokenizer import english, extend, load_or_train
    from finetune.pocket.train import Recipe, train

    if threads:
        torch.set_num_threads(threads)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = extend(load_or_train(Path(start) if start else directory / "tokenizer", seed))
    if start and (before := Path(start) / "training.jsonl").exists() and not (directory / "log.jsonl").exists():
        shutil.copy(before, directory / "log.jsonl")  # what made its weights
    recipe = Recipe(steps=steps, seed=seed, student=student)
    try:
        model = train(recipe, tokenizer, english(), directory, every, Path(start) if start else None, workers)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("stopped; the same command goes on from the last checkpoint") from None
    shipped = Path("finetune/student" if student else "r2p_dspy/pocket")
    target = shipped if install else directory / "model"
    export(model, tokenizer, recipe, directory, target)
    click.echo(f"the model is in {target}")


if __name__ == "__main__":
    main()
