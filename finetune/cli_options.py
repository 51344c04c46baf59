"""The options that only `finetune` has; light, because the command line imports them when it starts."""

from collections.abc import Callable
from typing import Any, get_args

import click

from finetune.config import CANDIDATES, METHOD, USERS, GRPOConfig, Method, SFTConfig, Traces

_COUNT = click.IntRange(1)
_POSITIVE = click.FloatRange(0, min_open=True)


def _with_default(name: str, default: Any, help: str, **attributes: Any) -> Callable[[Any], Any]:
    return click.option(name, default=default, show_default=True, help=help, **attributes)


_OPTIONS = (
    click.option("--program", metavar="FILE", help="Use this compiled program (program.json) as the teacher."),
    click.option(
        "--student",
        metavar="DIR_OR_NAME",
        help="Train this model: a directory, a hub name, pocket, smollm2 or gguf:FILE; default: finetune/student.",
    ),
    _with_default(
        "--method",
        METHOD,
        "Learn from the teacher's traces (sft), from rewards (grpo), or from both in turn.",
        type=click.Choice(get_args(Method)),
    ),
    _with_default(
        "--traces",
        "sample",
        "Let the teacher answer by itself, and keep what is right (sample), or tell it the right answers, and keep how "
        "it reasons towards them (rationalize): for a model too weak to answer, also as its own teacher.",
        type=click.Choice(get_args(Traces)),
    ),
    _with_default(
        "--rounds", 1, "Collect traces and train this often; from the second time on, the student teaches.", type=_COUNT
    ),
    click.option(
        "--lora",
        type=_COUNT,
        is_flag=False,
        flag_value=16,
        default=None,
        help="Train an adapter of this rank (16 if none is given) instead of all weights.",
    ),
    _with_default("--candidates", CANDIDATES, "Let the teacher sample and reconcile this many answers.", type=_COUNT),
    click.option(
        "--carrier",
        type=click.Choice(["fields", "thinking"]),
        help="Choose what the student reasons in; default: thinking if its chat template supports it.",
    ),
    _with_default("--users", USERS, "Learn from this many users of each task.", type=_COUNT),
    _with_default("--tokens", GRPOConfig.tokens, "Limit the student's answers to this length.", type=click.IntRange(8)),
    _with_default("--epochs", SFTConfig.epochs, "SFT: pass over the traces this often.", type=_POSITIVE),
    _with_default("--batch", SFTConfig.batch, "SFT: take this many rows per step, over all devices.", type=_COUNT),
    click.option("--learning-rate", type=_POSITIVE, help="SFT: set the learning rate; default: by the student's size."),
    click.option(
        "--mask-forced/--no-mask-forced",
        default=None,
        help="SFT: train on the tokens that the format leaves to choose, for a student whose answers are held to it; "
        "default: on all.",
    ),
    _with_default("--steps", GRPOConfig.steps, "GRPO: take at most this many steps.", type=_COUNT),
    _with_default("--prompts", GRPOConfig.prompts, "GRPO: take this many prompts per step.", type=_COUNT),
    _with_default(
        "--generations", GRPOConfig.generations, "GRPO: sample this many answers per prompt.", type=click.IntRange(2)
    ),
    click.option(
        "--rl-learning-rate", type=_POSITIVE, help="GRPO: set the learning rate; default: by the student's size."
    ),
    click.option(
        "--grpo",
        multiple=True,
        metavar="KEY=VALUE",
        help="GRPO: set an option of trl.GRPOConfig, such as loss_type=dapo. Repeat for more.",
    ),
    click.option("--vllm", metavar="MODE", help="GRPO: generate with vLLM, colocate or server (needs a GPU)."),
    click.option(
        "--constrain-rollouts/--no-constrain-rollouts",
        default=None,
        help="GRPO: hold sampled answers to the format, and train on the tokens that were chosen; default: not.",
    ),
    click.option(
        "--correct-rollouts/--no-correct-rollouts",
        default=None,
        help="GRPO: correct sampled answers while they are written, as R2P does; default: not.",
    ),
    _with_default(
        "--every", GRPOConfig.every, "Save a checkpoint and evaluate on dev after this many steps.", type=_COUNT
    ),
    _with_default(
        "--patience", GRPOConfig.patience, "Stop after this many evaluations without an improvement.", type=_COUNT
    ),
)


def training_options(command: Any) -> Any:
    """Add these options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
