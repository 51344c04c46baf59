"""The command's options as one config in parts."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import cli
from finetune.config import STUDENT, FinetuneConfig
from programs.data.dataset import DataConfig
from programs.runs.model import ModelConfig
from r2p_dspy.errors import ConfigError


def options(*arguments):
    """The options of the `finetune` command, as click parses them."""
    with click.Context(cli.finetune) as context:
        cli.finetune.parse_args(context, [*arguments])
    return {name: value for name, value in context.params.items() if name not in ("output", "resume", "verbose")}


def test_defaults():
    config = FinetuneConfig.of(**options())
    assert config.tasks == ("lamp2",) and config.student == str(STUDENT)
    assert config.runs_sft and config.runs_grpo
    assert config.teacher == ModelConfig("pocket") and config.r2p.candidates == 5
    assert config.data == DataConfig(trains=True, train=400)
    assert (config.sft.lora, config.sft.epochs, config.grpo.steps, config.tokens) == (0, 2, 100, 128)


def test_defaults_equal_the_command_lines():
    ours, theirs = FinetuneConfig.of(), FinetuneConfig.of(**options())
    assert replace(ours, options={}) == replace(theirs, options={})


def test_shared_options_reach_both_trainings():
    config = FinetuneConfig.of(**options("--lora", "8", "--seed", "3", "--every", "5", "--patience", "1"))
    for part in (config.sft, config.grpo):
        assert (part.lora, part.seed, part.every, part.patience) == (8, 3, 5, 1)
    assert config.data.seed == config.teacher.seed == 3


def test_record_holds_options_that_change_results():
    given = options("--grpo", "beta=0.1", "--num-threads", "2")
    record = FinetuneConfig.of(**given).options
    free = {"num_threads", "calls", "cache", "timeout", "max_failures", "ray", "ray_workers"}
    by_default = {"redact", "traces", "rounds", "mask_forced", "history"}
    assert record.keys() == given.keys() - free - by_default, "these are not given here"
    assert FinetuneConfig.of(**options("--redact")).options["redact"] is True
    assert record["grpo"] == {"beta": 0.1} and record["lora"] == 0 and record["student"] == str(STUDENT)


@pytest.mark.parametrize(("method", "sft", "grpo"), [("sft", True, False), ("grpo", False, True)])
def test_method_runs_its_trainings(method, sft, grpo):
    config = FinetuneConfig.of(**options("--method", method))
    assert (config.runs_sft, config.runs_grpo) == (sft, grpo)


@pytest.mark.parametrize(
    ("flags", "constrain"), [([], False), (["--no-constrain-rollouts"], False), (["--constrain-rollouts"], True)]
)
def test_constrained_rollouts(flags, constrain):
    assert FinetuneConfig.of(**options(*flags)).grpo.constrain is constrain


@pytest.mark.parametrize(("flags", "masks"), [([], False), (["--no-mask-forced"], False), (["--mask-forced"], True)])
def test_mask_of_forced_tokens(flags, masks):
    assert FinetuneConfig.of(**options(*flags)).sft.mask_forced is masks


def test_unknown_method():
    with pytest.raises(ConfigError, match="the methods are sft, grpo"):
        FinetuneConfig.of(method="ppo")


def test_help():
    text = CliRunner().invoke(cli.cli, ["finetune", "--help"]).output
    assert "Train this model" in text and "GRPO: sample this many answers per prompt" in " ".join(text.split())


def test_options_import_neither_dspy_nor_torch():
    code = (
        "import sys, finetune.cli_options; print(*[name for name in ('dspy', 'torch', 'trl') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(cli.__file__).parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_record_leaves_out_defaults_that_earlier_runs_did_not_know():
    assert (
        not {"traces", "rounds", "redact", "mask_forced", "history"}
        & FinetuneConfig.of(mask_forced=None).options.keys()
    )
    assert FinetuneConfig.of(mask_forced=True).options["mask_forced"] is True
    changed = FinetuneConfig.of(traces="rationalize", rounds=2, redact=True).options
    assert (changed["traces"], changed["rounds"], changed["redact"]) == ("rationalize", 2, True)
