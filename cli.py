"""The command line of r2p-dspy. Each command imports what it needs, so that `--help` is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from finetune.cli_options import training_options
from programs.leaderboard.command import leaderboard
from programs.serve.command import serve
from programs.ui.errors import FAILED_ROWS, CommandGroup
from programs.ui.options import CALLS, COMPILING, DATA, MEASURES, RAY, RUN, SERVED, SETTINGS, SWEPT_SETTINGS, options


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option("0.1.0", prog_name="r2p-dspy")
def cli() -> None:
    """Personalize the output of language models, and show the evidence.

    Except for `data get` and `models get`, every command runs offline by default: the embedded pocket model on the
    synthetic persona world.
    """


@cli.command("compile")
@options("task", "model", *SERVED, *DATA, *SETTINGS, "on_unmet", *COMPILING, *RUN)
def compile_command(output: str | None, resume: bool, verbose: bool, **given: Any) -> None:
    """Compile an R2P program, and measure it on unseen users beside plain prediction and chain of thought."""
    _quiet()
    from programs.optimize.run import run_compile
    from programs.runs.configs import CompileConfig
    from programs.ui.console import Console
    from programs.ui.report_table import failed_line

    console, directory = Console(verbose), _directory("compile", [given["task"]], output, resume)
    with console:
        config = CompileConfig.of(**given)
        trainable = _trainable(directory) if config.model.in_process else None
        report = run_compile(config, directory, resume, console, trainable)
    console.table(report, directory)
    _next(str(own) if (own := directory / "task.yaml").exists() else given["task"], directory / "program.json")
    _exit_with_failed_rows(failed_line(report, directory))


@cli.command()
@options("task", "model", *SERVED, *DATA, *SETTINGS, *MEASURES, *RAY, *RUN)
def evaluate(output: str | None, resume: bool, verbose: bool, **given: Any) -> None:
    """Measure plain prediction, chain of thought, R2P and a compiled program on the same users and items."""
    _quiet()
    from programs.evaluate.run import run_evaluate
    from programs.runs.configs import EvaluateConfig
    from programs.ui.console import Console
    from programs.ui.report_table import failed_line

    console, directory = Console(verbose), _directory("evaluate", [given["task"]], output, resume)
    with console:
        report = run_evaluate(EvaluateConfig.of(**given), directory, resume, console)
    console.table(report, directory)
    _next(given["task"], given["program"])
    _exit_with_failed_rows(failed_line(report, directory))


@cli.command()
@options("tasks", "models", *SERVED, *DATA, *SWEPT_SETTINGS, *MEASURES, *RUN)
def sweep(output: str | None, resume: bool, verbose: bool, **given: Any) -> None:
    """Evaluate every task with every model and every k, and compare them: one table and one figure for each task.

    Give --task, --model and --k several times. Each combination has the same users, and for one k the same items.
    """
    _quiet()
    from programs.evaluate.sweep import run_sweep
    from programs.runs.configs import SweepConfig
    from programs.ui.console import Console
    from programs.ui.sweep_table import failed_cells, print_sweep

    directory = _directory("sweep", given["tasks"], output, resume)
    with Console(verbose) as console:
        report = run_sweep(SweepConfig.of(**given), directory, resume, console)
    print_sweep(report, directory)
    _exit_with_failed_rows(failed_cells(report, directory))


@cli.command()
@options("tasks")
@training_options
@options("data", "model", *SERVED, "retriever", "k", "template", "history", "retriever_tokens")
@options("skip_bad", "limit", "seed")
@options("num_threads", "max_failures", "redact", *CALLS, *RAY, "output", "resume", "verbose")
def finetune(output: str | None, resume: bool, verbose: bool, **given: Any) -> None:
    """Distill a program on a large model into a small open model that answers in one call: traces, SFT, then GRPO.

    The teacher answers for training users. The student learns from the answers that are right, keep to the template and
    cite real evidence; then the checks and the task's metric are its reward. The run's directory gets the model, its
    program, and the report on unseen users. Works under `accelerate launch cli.py finetune …` too.
    """
    _quiet()
    from finetune.config import FinetuneConfig, check_installed

    check_installed()
    from finetune.card import failed_rows, print_report
    from finetune.run import run_finetune
    from finetune.training import hush
    from programs.ui.console import Console

    if not verbose:
        hush()
    config = FinetuneConfig.of(**given)
    directory = _directory("finetune", config.tasks, output, resume)
    with Console(verbose) as console:
        report = run_finetune(config, directory, resume, console)
    if report:  # of the first process, under `accelerate launch`
        print_report(report, directory)
        _exit_with_failed_rows(failed_rows(report, directory))


@cli.command()
@click.option(
    "--input", "source", metavar="FILE", required=True, help="Read JSONL (id, question, profile) or git:REPOSITORY."
)
@click.option("--output", "target", metavar="FILE", required=True, help="Write an answer for each row, in order.")
@options("program", "task", "model", *SERVED, *SETTINGS, "on_unmet", "seed", "num_threads", "temperature", "skip")
@options("store", "redact", *CALLS, "resume", *RAY, "partition_rows")
def predict(source: str, target: str, resume: bool, **given: Any) -> None:
    """Answer the rows of a file, each with the evidence that it rests on.

    A row is {"id": …, QUESTION: …, "profile": [ITEM, …]}, in the names of the task (LaMP's own rows work too); with
    --store, a row may have "user": NAME in place of a profile (`data import` fills a store). An answer comes with the
    items that it cites, the checks that it fails, and its calls and tokens. With --on-unmet raise, an answer that fails
    an assert is none: its row fails. With --ray, --output is a folder, and --input may be Parquet, or a folder.

    Rows that cannot be answered go to NAME.failed.jsonl beside the output, with line and reason: flawed rows, answers
    that cannot be read, requests that the model refuses, requests that the server fails to answer although it answers
    others. They count as done, and the exit code is 3. To try them again, copy their rows into a new input. A row left
    out by --skip goes there too, also when the run is resumed.

    If the server is away, no row fails: the run stops, and --resume goes on. It repeats no completed call: until the
    run is finished, these are kept in NAME.calls. The run stops too when a check of the task itself fails, and when 50
    rows fail one after another.
    """
    from programs.predict.run import run_predict
    from programs.runs.configs import PredictConfig
    from programs.ui.console import Console

    with Console() as console:
        done = run_predict(PredictConfig.of(source, target, **given), resume, console)
    failed = f", {done.failed} failed, see {done.failures}" if done.failed else ""
    click.echo(f"{done.answered + done.failed} rows: {done.answered} answered in {target}{failed}")
    if failed:
        sys.exit(FAILED_ROWS)


class DataGroup(click.Group):
    """`data`. Its commands are in a module of their own, which is imported when one of them is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return _data_commands().list_commands(ctx)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return _data_commands().get_command(ctx, name)


def _data_commands() -> click.Group:
    from programs.ui.data_commands import data

    return data


@cli.group(cls=DataGroup)
def data() -> None:
    """Get and make data, check and show them; fill a store of histories, and forget a user."""


@cli.command()
def tasks() -> None:
    """List the tasks, with metrics, trivial baselines, published results, data at hand, and the names in their rows."""
    from programs.ui.tasks_table import print_tasks

    print_tasks()


@cli.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List the models that --model takes, what of them is here, and their licences; fetch one."""
    if context.invoked_subcommand is None:
        from programs.ui.models_table import print_models

        print_models()


@models.command()
@click.argument("name")
def get(name: str) -> None:
    """Fetch the model NAME (smollm2) once, check its hash, and convert it into the cache."""
    if not sys.stderr.isatty():
        _quiet()
    from r2p_dspy.engines.fetch import fetch_model

    directory = fetch_model(name, lambda line: click.echo(line, err=True))
    click.echo(f"{name} is in {directory}; next: python cli.py evaluate --model {name}")


@cli.command()
@click.argument("program", metavar="PROGRAM_OR_RUN")
@click.argument("other", metavar="[OTHER]", required=False)
@click.option("--all", "every", is_flag=True, help="Show long texts as a whole.")
@click.option("--open/--no-open", "opens", default=True, help="Open a run's page in the browser, if there is one.")
def show(program: str, other: str | None, every: bool, opens: bool) -> None:
    """Show a run with every example, or a compiled program. Of two programs, show what differs.

    PROGRAM_OR_RUN is a run's directory, a program.json, or a task's name for its uncompiled program. Of a run,
    report.html opens in the browser, and the terminal shows its table or, where it has one, its program: provenance,
    instructions and demos. `show lamp2 FILE` shows what compiling changed.
    """
    from programs.report_html.showing import show_run
    from programs.ui import show as showing
    from programs.ui.terminal import output, print_lines

    if other is None and show_run(Path(program), opens):
        return
    width, most = min(output().width, 110), None if every else showing.MAX_CHARS
    artifact = showing.load_artifact(program)
    if other is None:
        print_lines(showing.describe(artifact, width, most))
    else:
        print_lines(showing.compare(artifact, showing.load_artifact(other), width, most))


@cli.command()
@click.argument("predictions", metavar="PREDICTIONS")
@click.argument("golds", metavar="GOLDS")
def score(predictions: str, golds: str) -> None:
    """Score a file of predictions against LaMP's file of golds, as the official script does.

    Both files are in LaMP's format: {"task": "LaMP_2", "golds": [{"id": …, "output": …}]}. A run writes such a file for
    each of its programs to submissions/.
    """
    from programs.evaluate.submission import score as scored
    from programs.ui.report_table import print_scores

    print_scores(*scored(Path(predictions), Path(golds)))


@cli.command()
def doctor() -> None:
    """Check that what the commands need is here, and say how to install what is missing."""
    from programs.ui.doctor import print_findings

    print_findings()


def _quiet() -> None:
    os.environ.setdefault("TQDM_DISABLE", "1")  # the optimizers' own bars would break ours


def _directory(command: str, tasks: Any, output: str | None, resume: bool) -> Path:
    """The run's directory: `--output`, or one in runs/."""
    from programs.runs.directory import default_directory
    from programs.tasks.task_file import task_of

    names = "-".join(task_of(task).name for task in dict.fromkeys(tasks))
    return default_directory(command, names, resume) if output is None else Path(output)


def _next(task: str, program: Any) -> None:
    """Say what to do after measuring a compiled program, or none."""
    use = f"predict --task {task} --program {program} --input ROWS.jsonl --output ANSWERS.jsonl"
    click.echo(f"next: python cli.py {use if program else f'compile --task {task}'}")


def _exit_with_failed_rows(line: str | None) -> None:
    """Exit with a line that says how many rows failed and where they are, if any did."""
    if line is not None:
        click.echo(line)
        sys.exit(FAILED_ROWS)


def _trainable(directory: Path) -> Callable[[Any], Any]:
    """Makes a language model trainable; trained weights go to the run's directory."""

    def make(lm: Any) -> Any:
        from finetune.dspy_provider.provider import trainable
        from finetune.training import hush

        hush()
        return trainable(lm, directory / "training")

    return make


cli.add_command(leaderboard)
cli.add_command(serve)
if __name__ == "__main__":
    cli()
