"""The options that `finetune` alone has; light, as the command line imports it at its start."""

from collections.abc import Callable
from typing import Any, get_args

import click

from finetune.config import Method, Options

_MORE = click.IntRange(1)
_ABOVE = click.FloatRange(0, min_open=True)


def _shown(name: str, default: Any, help: str, **how: Any) -> Callable[[Any], Any]:
    return click.option(name, default=default, show_default=True, help=help, **how)


_OPTIONS = (
    click.option("--program", metavar="FILE", help="The teacher's program (program.json of a compile run)."),
    click.option(
        "--student",
        metavar="DIR_OR_NAME",
        help="What is trained: a model directory, hub name or pocket; default: finetune/student.",
    ),
    _shown(
        "--method",
        Options.method,
        "From the teacher's traces, from rewards, or both.",
        type=click.Choice(get_args(Method)),
    ),
    click.option(
        "--lora",
        type=_MORE,
        is_flag=False,
        flag_value=16,
        default=None,
        help="Train an adapter of this rank (16) instead of all weights.",
    ),
    _shown("--candidates", Options.candidates, "That the teacher samples and reconciles.", type=_MORE),
    click.option(
        "--carrier",
        type=click.Choice(["fields", "thinking"]),
        help="What the student reasons in; default: thinking where its chat template has that.",
    ),
    _shown("--users", Options.users, "To learn from, of each task.", type=_MORE),
    _shown("--tokens", Options.tokens, "Of an answer at most.", type=click.IntRange(8)),
    _shown("--epochs", Options.epochs, "SFT: passes over the traces.", type=_ABOVE),
    _shown("--batch", Options.batch, "SFT: rows of a step on each device.", type=_MORE),
    click.option("--learning-rate", type=_ABOVE, help="SFT; default: by the student's size."),
    _shown("--steps", Options.steps, "GRPO: steps at most.", type=_MORE),
    _shown("--prompts", Options.prompts, "GRPO: of a step.", type=_MORE),
    _shown("--generations", Options.generations, "GRPO: answers to each prompt.", type=click.IntRange(2)),
    click.option("--rl-learning-rate", type=_ABOVE, help="GRPO; default: by the student's size."),
    click.option(
        "--grpo",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any option of trl.GRPOConfig, such as loss_type=dapo; can be given again.",
    ),
    click.option("--vllm", metavar="MODE", help="GRPO generates with vLLM, colocate or server (needs a GPU)."),
    _shown("--every", Options.every, "Steps between checkpoints, each examined on dev.", type=_MORE),
    _shown(
        "--patience", Options.patience, "Examinations without a better one, after which a training stops.", type=_MORE
    ),
)


def training_options(command: Any) -> Any:
    """Give a command these options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
