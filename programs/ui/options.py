"""The command line's options, each defined once. Light: `--help` imports this module, and nothing that it describes."""

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Any], Any]

_TASK = "Choose a task of `python cli.py tasks`, or a task file of your own (.yaml, .py; docs/your-task.md)."
_MODEL = (
    "Choose the model: pocket, hf:DIR_OR_NAME, or a DSPy/LiteLLM name (openai/…, hosted_vllm/…). "
    "Keys come from the environment."
)
_DATA = (
    "Read LaMP's {train,dev}_{questions,outputs}.json, or JSONL rows; default: the persona world, which is synthetic."
)
_RETRIEVER = (
    "Choose how items are retrieved: bm25, recency, random, all, dense:EMBEDDING_MODEL or hybrid:EMBEDDING_MODEL."
)
_OPTIMIZER = (
    "Choose how to compile. Demos: bootstrap, random, knn, simba. Instructions, with --reflection-model: gepa, mipro, "
    "copro, simba. Demos and weights: better-together. Nothing: none."
)
_WEIGHTS = (
    "Weight the parts of the score: task, structure, evidence, consistency. A part that you leave out has no weight. "
    "Default: task=0.7,structure=0.1,evidence=0.15,consistency=0.05."
)
_TUNE = (
    "Tune R2P's settings before compiling. Settings you pass explicitly are not tuned. Add --optimizer none to tune "
    "without compiling."
)
_MLFLOW = "Keep the run, with prompts and answers, in MLflow: a directory, or the address of a server."
_CARRIER = "Carry R2P's stages in output fields, or in tags inside the model's own thinking."
_RECONCILE = "Choose how several candidates become one answer."
_AT_LEAST_ONE = click.IntRange(1)


def _only_one(context: click.Context, option: click.Parameter, values: tuple[Any, ...]) -> Any:
    """The value of an option that is refused with several values; click would take the last one silently."""
    different = [*dict.fromkeys(values)]
    if len(different) > 1:
        sweep = "; use `python cli.py sweep` to compare several" if context.info_name == "evaluate" else ""
        values_given = " and ".join(map(str, different))
        raise click.UsageError(f"{context.info_name} takes one {option.opts[0]}, not {values_given}{sweep}")
    return different[0] if different else None


_SWEPT: dict[str, dict[str, Any]] = {  # the options that `sweep` takes several values of
    "task": {"default": ["lamp2"], "show_default": "lamp2", "help": _TASK},
    "model": {"default": ["pocket"], "show_default": "pocket", "help": _MODEL},
    "k": {"type": int, "show_default": "4", "help": "Show this many items in a prompt."},
}
REPEATABLE: dict[str, Decorator] = {
    name: click.option(f"--{name}", f"{name}s", multiple=True, **{**how, "help": f"{how['help']} Repeatable."})
    for name, how in _SWEPT.items()
}
_OPTIONS: dict[str, Decorator] = {
    **{name: click.option(f"--{name}", multiple=True, callback=_only_one, **how) for name, how in _SWEPT.items()},
    "data": click.option("--data", metavar="DIR_OR_FILE", help=_DATA),
    "api_base": click.option("--api-base", metavar="URL", help="Set the address of a served model."),
    "program": click.option("--program", metavar="FILE", help="Use a compiled program: program.json of a compile run."),
    # R2P's settings. None stands for the compiled program's setting, or the default.
    "retriever": click.option("--retriever", show_default="bm25", help=_RETRIEVER),
    "candidates": click.option(
        "--candidates", type=click.IntRange(1, 100), show_default="1", help="Sample and reconcile this many outcomes."
    ),
    "reconcile": click.option(
        "--reconcile",
        type=click.Choice(["auto", "vote", "median", "medoid", "synthesis"]),
        show_default="auto",
        help=_RECONCILE,
    ),
    "adaptive": click.option(
        "--adaptive/--no-adaptive", default=None, help="Stop sampling candidates when the answer is settled."
    ),
    "template": click.option(
        "--template", type=click.Choice(["full", "brief"]), show_default="full", help="Choose the stages of reasoning."
    ),
    "carrier": click.option(
        "--carrier", type=click.Choice(["fields", "thinking"]), show_default="fields", help=_CARRIER
    ),
    "retriever_tokens": click.option(
        "--retriever-tokens", type=_AT_LEAST_ONE, help="Limit the tokens of all items in a prompt; default: no limit."
    ),
    "skip": click.option("--skip", metavar="ID", multiple=True, help="Leave out a row of the data. Repeatable."),
    "skip_bad": click.option("--skip-bad", is_flag=True, help="Leave out flawed rows of --data, and name them."),
    "limit": click.option("--limit", type=int, help="Report on this many examples (persona world: 200 by default)."),
    "seed": click.option(
        "--seed", default=0, show_default=True, help="Seed everything that is drawn, the persona users included."
    ),
    "num_threads": click.option(
        "--num-threads", default=16, show_default=True, type=_AT_LEAST_ONE, help="Keep this many calls in flight."
    ),
    "temperature": click.option(
        "--temperature",
        default=0.0,
        show_default=True,
        type=click.FloatRange(0, 2),
        help="Set the sampling temperature; 0 takes the likeliest token.",
    ),
    "optimizer": click.option("--optimizer", metavar="NAME", default="random", show_default=True, help=_OPTIMIZER),
    "reflection_model": click.option(
        "--reflection-model", metavar="MODEL", help="Let this model write instructions; gepa, mipro and copro need it."
    ),
    "reflection_api_base": click.option(
        "--reflection-api-base", metavar="URL", help="Set the address of a served --reflection-model."
    ),
    "weights": click.option("--weights", metavar="PART=NUMBER,…", help=_WEIGHTS),
    "threshold": click.option(
        "--threshold",
        type=click.FloatRange(0, 1),
        help="Make demos only of answers with at least this task score; default: the task's own.",
    ),
    "redact": click.option(
        "--redact", is_flag=True, help="Leave users' texts, and so demos, out of program.json (docs/artifacts.md)."
    ),
    "tune": click.option("--tune", is_flag=True, help=_TUNE),
    "trials": click.option(
        "--trials", default=24, show_default=True, type=_AT_LEAST_ONE, help="Let --tune measure this many settings."
    ),
    "max_calls": click.option(
        "--max-calls", type=int, metavar="N", help="Stop at so many calls; keep the best so far."
    ),
    "max_tokens": click.option("--max-tokens", type=int, metavar="N", help="Stop at so many prompt and answer tokens."),
    "max_usd": click.option("--max-usd", type=float, metavar="X", help="Stop at so many US dollars."),
    "max_minutes": click.option("--max-minutes", type=float, metavar="X", help="Stop after so many minutes."),
    "calls": click.option("--calls", metavar="DIR", help="Keep completed calls here; default: calls/ beside the run."),
    "cache": click.option(
        "--no-cache", "cache", flag_value=False, default=True, help="Neither look up completed calls nor keep them."
    ),
    "controls": click.option(
        "--controls", is_flag=True, help="Also measure without a profile, with another user's, and with random items."
    ),
    "ablate": click.option(
        "--ablate", is_flag=True, help="Add R2P's parts one by one, beside DSPy's BestOfN, Refine and MultiChain."
    ),
    "judge": click.option("--judge", metavar="MODEL", help="Let this model judge free text beside the metrics."),
    "judge_api_base": click.option("--judge-api-base", metavar="URL", help="Set the address of a served judge."),
    "output": click.option("--output", metavar="DIR", help="Set the run's directory; default: a new one in runs/."),
    "resume": click.option(
        "--resume", is_flag=True, help="Go on with an unfinished run: that of --output, or the latest in runs/."
    ),
    "mlflow": click.option("--mlflow", metavar="URI", help=_MLFLOW),
    "verbose": click.option("--verbose", is_flag=True, help="Show first prompts, and the optimizer's log."),
}
SETTINGS = ("retriever", "k", "candidates", "reconcile", "adaptive", "template", "carrier", "retriever_tokens")
DATA = ("data", "skip", "skip_bad", "limit", "seed")
RUN = ("num_threads", "temperature", "output", "resume", "mlflow", "verbose")
_OPTIMIZING = ("optimizer", "reflection_model", "reflection_api_base", "weights", "threshold", "redact")
COMPILING = (*_OPTIMIZING, "tune", "trials", "max_calls", "max_tokens", "max_usd", "max_minutes", "calls", "cache")
MEASURES = ("program", "ablate", "controls", "judge", "judge_api_base")


def options(*names: str, **replaced: Decorator) -> Decorator:
    """A decorator that gives a command these options.

    Args:
        names: of the options, in the order of `--help`.
        replaced: options that stand in place of those of the same name.
    """

    def decorate(command: Any) -> Any:
        for name in reversed(names):
            command = (replaced.get(name) or _OPTIONS[name])(command)
        return command

    return decorate
