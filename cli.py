"""The command line of r2p-dspy. What a command needs is imported inside it, so that `--help` is instant."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from finetune.cli_options import training_options


class OneLine(click.Group):
    """A group whose errors are one line on stderr and exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            return super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(0)
        except click.ClickException as error:
            _fail(error.format_message())
        except click.Abort:
            sys.exit(130)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = f" of {error.filename}" if error.filename else ""
            raise click.ClickException(f"the disk{where} is full; free some space, then go on with --resume") from error
        except Exception as error:
            from r2p_dspy.errors import R2PError  # which imports DSPy

            if not isinstance(error, R2PError):
                raise click.ClickException(_of_model(error)) from error
            if told := getattr(error, "traceback", ""):  # of a user's own code that failed
                click.echo(told, err=True)
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("stopped; the run goes on with the same command and --resume", err=True)
            sys.exit(130)


def _of_model(error: Exception) -> str:
    """What a failing language model comes to; anything else is a fault of ours, and stays what it is."""
    from dspy.utils.exceptions import LMAuthError, LMError

    if not isinstance(error, LMError):
        raise error
    advice = "set its key in the environment" if isinstance(error, LMAuthError) else "check --model and --api-base"
    reason = " ".join(str(error).split())
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return f"the language model failed ({reason[:300]}{notes}); {advice}, then go on with --resume"


def _fail(message: str) -> None:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(2)


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option("0.1.0", prog_name="r2p-dspy")
def cli() -> None:
    """Personalized generation with reasoning models, checked: compile and evaluate R2P programs.

    Every command has defaults that run offline: the embedded pocket model on the synthetic persona world.
    """


_DATA_HELP = "LaMP's {train,dev}_{questions,outputs}.json, or JSONL rows; default: the persona world (synthetic)."
_TASK_HELP = "One of `python cli.py tasks`, or a task file of your own (.yaml, .py; docs/your-task.md)."
_MODEL_HELP = "pocket, hf:DIR_OR_NAME, or a DSPy/LiteLLM name (openai/…, hosted_vllm/…); keys from the environment."
_RETRIEVER_HELP = "bm25, recency, random, all, dense:NAME (an embedding model), or hybrid:NAME (BM25 and that one)."
_TUNE_HELP = "Search R2P's settings first; those that are given stay as they are. With --optimizer none, that alone."
_MLFLOW_HELP = "Where MLflow is to keep the run, prompts and answers too: a directory, or the address of a server."
_TEMPERATURE_HELP = "0 takes the likeliest token."
_OPTIMIZER_HELP = (
    "Demos: bootstrap, random (a search), knn, simba. With --reflection-model instructions: gepa, mipro, copro, simba. "
    "Demos and weights: better-together."
)
_REFLECTION_HELP = "A larger model that writes instructions, as of --model; gepa, mipro and copro need one."
_WEIGHTS_HELP = (
    "Of the score's parts task, structure, evidence, consistency; one that is not named weighs nothing. "
    "Default: task=0.7,structure=0.1,evidence=0.15,consistency=0.05."
)
_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "task": click.option("--task", default="lamp2", show_default=True, help=_TASK_HELP),
    "data": click.option("--data", metavar="DIR_OR_FILE", help=_DATA_HELP),
    "model": click.option("--model", default="pocket", show_default=True, help=_MODEL_HELP),
    "api_base": click.option("--api-base", metavar="URL", help="Address of a served model."),
    # R2PConfig of R2P: None is the compiled program's own, or the default.
    "retriever": click.option("--retriever", show_default="bm25", help=_RETRIEVER_HELP),
    "k": click.option("--k", type=int, show_default="4", help="Items that a prompt shows."),
    "candidates": click.option(
        "--candidates", type=click.IntRange(1, 100), show_default="1", help="Outcomes that are sampled and reconciled."
    ),
    "reconcile": click.option(
        "--reconcile",
        type=click.Choice(["auto", "vote", "median", "medoid", "synthesis"]),
        show_default="auto",
        help="How several candidates become one answer.",
    ),
    "adaptive": click.option(
        "--adaptive/--no-adaptive", default=None, help="Stop sampling candidates when the answer is settled."
    ),
    "template": click.option(
        "--template", type=click.Choice(["full", "brief"]), show_default="full", help="The stages of R2P's reasoning."
    ),
    "carrier": click.option(
        "--carrier",
        type=click.Choice(["fields", "thinking"]),
        show_default="fields",
        help="What R2P's stages travel in: output fields, or tags in the model's own thinking.",
    ),
    "retriever_tokens": click.option(
        "--retriever-tokens", type=click.IntRange(1), help="Tokens that these items may take together; default: any."
    ),
    "skip": click.option(
        "--skip", metavar="ID", multiple=True, help="A row of --data to leave out; can be given again."
    ),
    "skip_bad": click.option("--skip-bad", is_flag=True, help="Leave the flawed rows of --data out, and report which."),
    "limit": click.option("--limit", type=int, help="Examples to report on (persona world: 200 by default)."),
    "seed": click.option(
        "--seed", default=0, show_default=True, help="Seeds everything, the persona users drawn included."
    ),
    "num_threads": click.option(
        "--num-threads", default=16, show_default=True, type=click.IntRange(1), help="Calls in flight."
    ),
    "temperature": click.option(
        "--temperature", default=0.0, show_default=True, type=click.FloatRange(0, 2), help=_TEMPERATURE_HELP
    ),
    "output": click.option("--output", metavar="DIR", help="The run's directory; default: a new one in runs/."),
    "resume": click.option(
        "--resume", is_flag=True, help="Go on with an unfinished run (the latest, without --output)."
    ),
    "mlflow": click.option("--mlflow", metavar="URI", help=_MLFLOW_HELP),
    "verbose": click.option("--verbose", is_flag=True, help="Also what the optimizer does, and first prompts."),
}
_SETTINGS = ("retriever", "k", "candidates", "reconcile", "adaptive", "template", "carrier")
_AGAIN = " Given again, a sweep over all of them."
_SWEPT = {  # what can be given again where a command sweeps
    "task": click.option("--task", multiple=True, default=["lamp2"], show_default=True, help=_TASK_HELP + _AGAIN),
    "model": click.option("--model", multiple=True, default=["pocket"], show_default=True, help=_MODEL_HELP + _AGAIN),
    "k": click.option("--k", type=int, multiple=True, show_default="4", help="Items that a prompt shows." + _AGAIN),
}


def _common(*names: str, sweeps: bool = False) -> Callable[[Any], Any]:
    """The options of these names; of all where none is named."""
    options = _OPTIONS | _SWEPT if sweeps else _OPTIONS

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names or tuple(options)):
            command = options[name](command)
        return command

    return decorate


@cli.command("compile")
@_common()
@click.option("--optimizer", metavar="NAME", default="random", show_default=True, help=_OPTIMIZER_HELP)
@click.option("--reflection-model", metavar="MODEL", help=_REFLECTION_HELP)
@click.option("--reflection-api-base", metavar="URL", help="Address of a served --reflection-model.")
@click.option("--weights", metavar="PART=NUMBER,…", help=_WEIGHTS_HELP)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="From which task score on an answer may become a demo; default: the task's own.",
)
@click.option(
    "--redact",
    is_flag=True,
    help="Leave users' texts out of program.json, demos with them (docs/artifacts.md).",
)
@click.option("--tune", is_flag=True, help=_TUNE_HELP)
@click.option(
    "--trials", default=24, show_default=True, type=click.IntRange(1), help="R2PConfig that --tune measures on dev."
)
@click.option("--max-calls", type=int, metavar="N", help="Stop at so many calls, and keep the best program so far.")
@click.option("--max-tokens", type=int, metavar="N", help="Stop at so many tokens, of prompts and answers.")
@click.option("--max-usd", type=float, metavar="X", help="Stop at so many US dollars.")
@click.option("--max-minutes", type=float, metavar="X", help="Stop after so many minutes.")
@click.option("--calls", metavar="DIR", help="Where completed calls are kept; default: calls/ beside the run.")
@click.option("--no-cache", "cache", flag_value=False, default=True, help="Neither find completed calls nor keep them.")
def compile_command(output: str | None, resume: bool, verbose: bool, **options: Any) -> None:
    """Compile an R2P program, and measure it on unseen users beside plain prediction and chain of thought."""
    _run("compile", output, resume, verbose, options)


@cli.command()
@_common(sweeps=True)
@click.option("--program", metavar="FILE", help="A compiled program (program.json of a compile run).")
@click.option("--ablate", is_flag=True, help="Each part of R2P added in turn, beside DSPy's BestOfN and the like.")
@click.option("--controls", is_flag=True, help="Also without a profile, with another user's, and with random items.")
@click.option("--judge", metavar="MODEL", help="A model, as of --model, that judges free text beside the metrics.")
@click.option("--judge-api-base", metavar="URL", help="Address of a served judge.")
def evaluate(output: str | None, resume: bool, verbose: bool, **options: Any) -> None:
    """Measure plain prediction, chain of thought, R2P and a compiled program on the same users and items.

    With several tasks, models or k, all of them with one another: one table and one figure for each task.
    """
    swept = {name: tuple(dict.fromkeys(options.pop(name))) or (None,) for name in _SWEPT}
    first = {name: given[0] for name, given in swept.items()}
    if any(len(given) > 1 for given in swept.values()):
        _sweep(output, resume, verbose, options | first, swept)
    else:
        _run("evaluate", output, resume, verbose, options | first)


@cli.command()
@click.option(
    "--task",
    "tasks",
    multiple=True,
    default=["lamp2"],
    show_default=True,
    help=_TASK_HELP + " Given again, one run learns all of them.",
)
@training_options
@_common("data", "model", "api_base", "retriever", "k", "retriever_tokens", "skip_bad", "limit", "seed", "num_threads")
@_common("output", "resume", "verbose")
def finetune(output: str | None, resume: bool, verbose: bool, **options: Any) -> None:
    """Distil a program on a large model into a small one that needs one call: traces, SFT, then GRPO.

    The teacher answers for training users, and its answers that are right, keep to the template and cite what stands
    there are learnt; then the checks and the task's metric are the reward. The model, its program and the report on
    unseen users are in the run's directory. Also under `accelerate launch cli.py finetune …`.
    """
    _quiet()
    from finetune.requirements import check_installed

    check_installed()
    from finetune.config import Options
    from finetune.grpo import read_options
    from finetune.report import print_report
    from finetune.run import run_finetune
    from finetune.training import hush
    from programs.tasks.task_file import task_of
    from programs.ui.console import Console

    if not verbose:
        hush()
    given = {name: value for name, value in options.items() if value is not None}
    asked = Options(**{**given, "tasks": tuple(given["tasks"]), "grpo": read_options(given["grpo"])})
    directory = _directory("finetune", "-".join(task_of(name).name for name in asked.tasks), output, resume)
    with Console(verbose) as console:
        report = run_finetune(asked, directory, resume, console)
    if report:  # of the first process, under `accelerate launch`
        print_report(report, directory)


class DataGroup(click.Group):
    """`data`; its commands are in a module of their own, imported when one of them is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return _data_commands().list_commands(ctx)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return _data_commands().get_command(ctx, name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("stopped; a download goes on with the same command", err=True)
            sys.exit(130)


def _data_commands() -> click.Group:
    from programs.ui.data_commands import data

    return data


@cli.group(cls=DataGroup)
def data() -> None:
    """Get LaMP's files, check such files, show an example."""


@cli.command()
@click.argument("predictions", metavar="PREDICTIONS")
@click.argument("golds", metavar="GOLDS")
def score(predictions: str, golds: str) -> None:
    """Score a file of predictions against LaMP's file of golds, as the official script does.

    Both are as LaMP has it: {"task": "LaMP_2", "golds": [{"id": …, "output": …}]}. A run writes its programs' to
    submissions/.
    """
    from programs.evaluate.submission import score as scored
    from programs.ui.report_table import print_scores

    print_scores(*scored(Path(predictions), Path(golds)))


@cli.command()
@click.option("--input", "source", metavar="FILE", required=True, help="JSONL: rows with id, question and profile.")
@click.option("--output", "target", metavar="FILE", required=True, help="JSONL: an answer for each row, in order.")
@click.option("--program", metavar="FILE", help="A compiled program (program.json of a compile run).")
@_common("task", "model", "api_base", *_SETTINGS, "retriever_tokens", "seed", "num_threads", "temperature")
@click.option("--skip", metavar="ID", multiple=True, help="A row of --input to leave out; can be given again.")
@click.option("--resume", is_flag=True, help="Go on after the last row that is settled, with the same options.")
def predict(source: str, target: str, resume: bool, **options: Any) -> None:
    """Answer the rows of a file, each with the evidence that the answer rests on.

    A row is {"id": …, QUESTION: …, "profile": [ITEM, …]}, in the names of the task (LaMP's own rows will do). The
    answer comes with the items that it cites, the checks that it fails, and its calls and tokens.

    Rows that cannot be answered go to NAME.failed.jsonl beside the output, with line and reason: flawed rows, answers
    that cannot be read, requests that the model refuses. They count as done; to try some again, make an input of them.

    A model that cannot be reached makes no row fail: the run stops, as it does when 50 rows fail one after another, and
    --resume goes on with the first row that is not done.
    """
    from programs.predict.run import run_predict
    from programs.runs.configs import Options
    from programs.ui.console import Console

    with Console() as console:
        settled = run_predict(Options(**options), Path(source), Path(target), resume, console)
    failed = f", {settled.failed} failed, see {settled.failures.path}" if settled.failed else ""
    click.echo(f"{settled.answered + settled.failed} rows: {settled.answered} answered in {target}{failed}")


@cli.command()
@click.argument("program", metavar="PROGRAM")
@click.argument("other", metavar="[OTHER]", required=False)
@click.option("--all", "every", is_flag=True, help="Long texts as a whole.")
def show(program: str, other: str | None, every: bool) -> None:
    """Show a compiled program: where it comes from, its instructions, its demos; of two, what is different.

    PROGRAM is a program.json, the directory of a compile run, or a task's name for its uncompiled program: `show lamp2
    FILE` tells what compiling changed.
    """
    from programs.ui import show as showing
    from programs.ui.terminal import output, print_lines

    width, most = min(output().width, 110), None if every else showing.MAX_CHARS
    artifact = showing.load_artifact(program)
    if other is None:
        print_lines(showing.describe(artifact, width, most))
    else:
        print_lines(showing.compare(artifact, showing.load_artifact(other), width, most))


@cli.command()
def doctor() -> None:
    """Look whether everything that the commands need is here, and say what is missing."""
    from programs.ui.doctor import findings
    from programs.ui.terminal import Line, one_line, print_lines

    broken = 0
    for found in findings():
        mark, style = {True: ("ok", "green"), False: ("missing", "bold red"), None: ("-", "dim")}[found.ok]
        print_lines([Line(one_line(f"{mark}  {found.what}: {found.said}"), style)])
        broken += found.ok is False
    if broken:
        raise click.ClickException(f"{broken} of these are needed; see what is missing above")


@cli.command()
def tasks() -> None:
    """List the tasks, with metrics, trivial baselines, published results, data at hand, and the names in their rows."""
    from programs.ui.tasks_table import print_tasks

    print_tasks()


def _quiet() -> None:
    os.environ.setdefault("TQDM_DISABLE", "1")  # the optimizers' own bars would run through ours


def _run(command: str, output: str | None, resume: bool, verbose: bool, options: dict[str, Any]) -> None:
    """An experiment with its progress, and the table at its end."""
    _quiet()
    from programs.evaluate.run import run_evaluate
    from programs.optimize.run import run_compile
    from programs.runs.configs import Options
    from programs.tasks.task_file import task_of
    from programs.ui.console import Console
    from r2p_dspy.engines.connect import in_process

    console = Console(verbose)
    directory = _directory(command, task_of(options["task"]).name, output, resume)
    with console:
        if command == "compile":
            local = in_process(options["model"])  # only such a model can be trained
            trainable = _training(directory) if local else None
            report = run_compile(Options(**options), directory, resume, console, trainable)
        else:
            report = run_evaluate(Options(**options), directory, resume, console)
    console.table(report, directory)


def _training(directory: Path) -> Callable[[Any], Any]:
    """What makes a language model one whose weights can be trained, in the run's directory."""

    def make(lm: Any) -> Any:
        from finetune.dspy_provider.provider import trainable
        from finetune.training import hush

        hush()
        return trainable(lm, directory / "training")

    return make


def _sweep(output: str | None, resume: bool, verbose: bool, options: dict[str, Any], swept: dict[str, Any]) -> None:
    """A sweep with its progress, and the tables at its end."""
    from programs.evaluate.sweep import run_sweep
    from programs.runs.configs import Options
    from programs.tasks.task_file import task_of
    from programs.ui.console import Console
    from programs.ui.sweep_table import print_sweep

    tasks, models, ks = swept["task"], swept["model"], swept["k"]
    directory = _directory("sweep", "-".join(task_of(name).name for name in tasks), output, resume)
    with Console(verbose) as console:
        report = run_sweep(Options(**options), tasks, models, ks, directory, resume, console)
    print_sweep(report, directory)


def _directory(command: str, task: str, output: str | None, resume: bool) -> Path:
    """Where a run goes: as asked, or the first free of runs/compile-lamp2, runs/compile-lamp2-2, …"""
    if output is not None:
        return Path(output)
    numbered = [Path("runs") / f"{command}-{task}{'' if n == 1 else f'-{n}'}" for n in range(1, 1000)]
    used = [path for path in numbered if path.exists()]
    if resume:
        unfinished = [path for path in used if not (path / "report.json").exists()]
        if not unfinished:
            raise click.ClickException(f"there is no unfinished {command} run of {task} in runs/; leave out --resume")
        return unfinished[-1]
    return next(path for path in numbered if not path.exists())


if __name__ == "__main__":
    cli()
