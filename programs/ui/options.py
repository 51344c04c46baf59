"""The command line's options, each defined once. Light: `--help` imports this module, and nothing that it describes."""

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Any], Any]

_TASK = "Choose a task of `python cli.py tasks`, or a task file of your own (.yaml, .py; docs/your-task.md)."
_MODEL = (
    "Choose the model: pocket, smollm2, hf:DIR_OR_NAME, gguf:FILE, or a DSPy/LiteLLM name (openai/…, hosted_vllm/…); "
    "`python cli.py models` explains them. Keys come from the environment."
)
_DATA = (
    "Read LaMP's {train,dev}_{questions,outputs}.json, or LongLaMP's or LaMP-QA's (docs/longform.md), JSONL rows, or "
    "git:REPOSITORY (commits, for --task commits); "
    "default: the persona world, which is synthetic."
)
_API_BASE = (
    "Set the address of a served model. Several servers, with commas between them, share its calls (docs/scale.md)."
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
_HISTORY = (
    "Show items as a list, or as turns of the conversation, each an input that the user answered: small models follow "
    "turns where they copy from a list."
)
_RECONCILE = "Choose how several candidates become one answer."
_CONSTRAIN = (
    "Write answers under a grammar, made from the template and the items that are shown, where the model can be "
    "constrained (docs/constraints.md)."
)
_ON_UNMET = "Let `predict` write an answer that breaks an assert with its violations (return), or fail its row (raise)."
_RULES = ("auto", "vote", "median", "medoid", "synthesis")
_TEMPLATES = ("auto", "full", "brief", "outline", "aspects", "evidence", "none")
_ADAPTIVE = "Stop sampling candidates when the answer is settled."
_TEMPERATURE = (
    "Set the sampling temperature; 0 takes the likeliest token. Default: what the model's makers recommend, else 0."
)
_ANSWER_TOKENS = "Limit an answer, with its thought, to this many tokens; default: what the task's answers need."
_ADAPTER = "Choose DSPy's adapter, the format of prompts and answers; default: chat."
_REASONING = "Say whether the model thinks natively and shows its thoughts; default: what is known of it."
_LM = (
    "Set anything else of the model's calls, such as top_p=0.9 or "
    "extra_body.chat_template_kwargs.enable_thinking=false (docs/models.md). Repeatable."
)
_TIMEOUT = "Give up a call of a served model after so many seconds, retries included, and fail its row; default: 120."
_THRESHOLD = "Make demos only of answers with at least this task score; default: the task's own."
_FRONTIER = (
    "Let gepa keep candidates that are best at an example (instance), at a part of the score (objective), at either "
    "(hybrid), or at a part on an example (cartesian)."
)
_FRONTIERS = ("instance", "objective", "hybrid", "cartesian")
_MAX_FAILURES = "Stop when more than this share of the calls, or of a program's rows, fails (docs/production.md)."
_CALLS = (
    "Keep completed calls here for this and other runs. Default: of compile, calls/ beside the run; of other commands, "
    "a directory that is removed when the run is finished."
)
_REDACT = (
    "Leave users' texts out of what is kept to be read: transcripts, report.html, demos in program.json, the reasoning "
    "of predicted rows (docs/reports.md)."
)
_STORE = "Read the histories of rows that name a user from this store: sqlite:///FILE or postgresql+psycopg://…"
_CONTROLS = (
    "Also measure without a profile, with another user's, with random items, and without each item that R2P showed: "
    "whether its answers follow their citations (docs/reports.md)."
)
_RAY = (
    "Let a Ray cluster answer the rows: HOST:PORT, auto for the one that runs here, or no value for this machine "
    "alone (docs/scale.md)."
)
_AT_LEAST_ONE = click.IntRange(1)


def _only_one(context: click.Context, option: click.Parameter, values: tuple[Any, ...]) -> Any:
    """The value of an option that is refused with several values; click would take the last one silently."""
    different = [*dict.fromkeys(values)]
    if len(different) > 1:
        sweep = "; use `python cli.py sweep` to compare several" if context.info_name == "evaluate" else ""
        values_given = " and ".join(map(str, different))
        raise click.UsageError(f"{context.info_name} takes one {option.opts[0]}, not {values_given}{sweep}")
    return different[0] if different else None


_OPTIONS: dict[str, Decorator] = {}


def _define(name: str, text: str, flag: str | None = None, **how: Any) -> None:
    """Define an option by the name of its parameter, from which its flag is made unless `flag` is given."""
    _OPTIONS[name] = click.option(flag or f"--{name.replace('_', '-')}", name, help=text, **how)


_SWEPT: dict[str, dict[str, Any]] = {  # the options that `sweep` takes several values of
    "task": {"text": _TASK, "default": ["lamp2"], "show_default": "lamp2"},
    "model": {"text": _MODEL, "default": ["pocket"], "show_default": "pocket"},
    "k": {"text": "Show this many items in a prompt.", "type": int, "show_default": "4"},
}
for _name, _how in _SWEPT.items():
    _define(_name, multiple=True, callback=_only_one, **_how)
    _define(f"{_name}s", flag=f"--{_name}", multiple=True, **_how | {"text": f"{_how['text']} Repeatable."})
_define("data", _DATA, metavar="DIR_OR_FILE")
_define("api_base", _API_BASE, metavar="URL[,URL…]")
_define("program", "Use a compiled program: program.json, or the directory of its run.", metavar="FILE_OR_RUN")
# R2P's settings. None stands for the compiled program's setting, or the default.
_define("retriever", _RETRIEVER, show_default="bm25")
_define("candidates", "Sample and reconcile this many outcomes.", type=click.IntRange(1, 100), show_default="1")
_define("reconcile", _RECONCILE, type=click.Choice(_RULES), show_default="auto")
_define("adaptive", _ADAPTIVE, "--adaptive/--no-adaptive", default=None)
_define(
    "template",
    "Choose the stages of reasoning. auto: full, but outline or aspects for tasks with long answers.",
    type=click.Choice(_TEMPLATES),
    show_default="auto",
    callback=lambda context, parameter, value: None if value == "auto" else value,
)
_define("carrier", _CARRIER, type=click.Choice(["fields", "thinking"]), show_default="fields")
_define("history", _HISTORY, type=click.Choice(["list", "turns"]), show_default="list")
_define("constrain", _CONSTRAIN, type=click.Choice(["auto", "on", "off"]), show_default="auto")
_define("on_unmet", _ON_UNMET, type=click.Choice(["raise", "return"]), show_default="return")
_define("retriever_tokens", "Limit the tokens of all items in a prompt; default: no limit.", type=_AT_LEAST_ONE)
_define("skip", "Leave out a row, also when a run is resumed. Repeatable.", metavar="ID", multiple=True)
_define("skip_bad", "Leave out flawed rows of --data, and name them.", is_flag=True)
_define("limit", "Report on this many examples (persona world: 200); of files, also limits training and dev.", type=int)
_define("seed", "Seed everything that is drawn, the persona users included.", default=0, show_default=True)
_define("num_threads", "Keep this many calls in flight.", default=16, show_default=True, type=_AT_LEAST_ONE)
_define("temperature", _TEMPERATURE, type=click.FloatRange(0, 2))
_define("answer_tokens", _ANSWER_TOKENS, type=_AT_LEAST_ONE, metavar="N")
_define("adapter", _ADAPTER, type=click.Choice(["chat", "json", "xml", "baml"]))
_define("reasoning", _REASONING, "--reasoning/--no-reasoning", default=None)
_define("lm", _LM, metavar="KEY=VALUE", multiple=True)
_define("timeout", _TIMEOUT, type=click.FloatRange(0, min_open=True), metavar="SECONDS")
_define("optimizer", _OPTIMIZER, metavar="NAME", default="random", show_default=True)
_define("reflection_model", "Let this model write instructions; gepa, mipro and copro need it.", metavar="MODEL")
_define("reflection_api_base", "Set the address of a served --reflection-model.", metavar="URL")
_define("weights", _WEIGHTS, metavar="PART=NUMBER,…")
_define("threshold", _THRESHOLD, type=click.FloatRange(0, 1))
_define("frontier", _FRONTIER, type=click.Choice(_FRONTIERS), show_default="instance")
_define("redact", _REDACT, is_flag=True)
_define("tune", _TUNE, is_flag=True)
_define("trials", "Let --tune measure this many settings.", default=24, show_default=True, type=_AT_LEAST_ONE)
_define("max_calls", "Stop after N calls; keep the best program so far.", type=int, metavar="N")
_define("max_tokens", "Stop after N tokens of prompts and answers.", type=int, metavar="N")
_define("max_usd", "Stop after X US dollars.", type=float, metavar="X")
_define("max_minutes", "Stop after X minutes.", type=float, metavar="X")
_define("max_failures", _MAX_FAILURES, default=0.05, show_default=True, type=click.FloatRange(0, 1))
_define("calls", _CALLS, metavar="DIR")
_define("store", _STORE, metavar="URL", envvar="R2P_STORE", show_envvar=True)
_define("ray", _RAY, is_flag=False, flag_value="local", metavar="[ADDRESS]")
_define("ray_workers", "Let so many workers answer with --ray; default: one for each CPU, or GPU.", type=_AT_LEAST_ONE)
_define(
    "partition_rows",
    "Give a worker of --ray so many rows at a time.",
    default=1000,
    show_default=True,
    type=_AT_LEAST_ONE,
)
_define("cache", "Do not keep completed calls.", "--no-cache", flag_value=False, default=True)
_define("controls", _CONTROLS, is_flag=True)
_define("ablate", "Add R2P's parts one by one, beside DSPy's BestOfN, Refine and MultiChainComparison.", is_flag=True)
_define("only", "Measure this program alone, by its name in the table. Repeatable.", metavar="NAME", multiple=True)
_define("judge", "Let this model judge free text beside the metrics; LaMP-QA's rubrics need one.", metavar="MODEL")
_define("judge_api_base", "Set the address of a served judge.", metavar="URL")
_define("second_judge", "Let this model judge too, and report how far the two agree.", metavar="MODEL")
_define("second_judge_api_base", "Set the address of a served second judge.", metavar="URL")
_define("output", "Set the run's directory; default: a new one in runs/.", metavar="DIR")
_define("resume", "Go on with an unfinished run: that of --output, or the latest in runs/.", is_flag=True)
_define("mlflow", _MLFLOW, metavar="URI")
_define("verbose", "Show first prompts, and the optimizer's log.", is_flag=True)

_R2P = ("candidates", "reconcile", "adaptive", "template", "carrier", "history", "constrain", "retriever_tokens")
SETTINGS = ("retriever", "k", *_R2P)
SWEPT_SETTINGS = ("retriever", "ks", *_R2P)
SERVED = ("api_base", "answer_tokens", "adapter", "reasoning", "timeout", "lm")
DATA = ("data", "skip", "skip_bad", "limit", "seed")
RUN = ("num_threads", "temperature", "max_failures", "output", "resume", "mlflow", "verbose")
_OPTIMIZING = ("optimizer", "reflection_model", "reflection_api_base", "weights", "threshold", "frontier", "redact")
CALLS = ("calls", "cache")
RAY = ("ray", "ray_workers")
COMPILING = (*_OPTIMIZING, "tune", "trials", "max_calls", "max_tokens", "max_usd", "max_minutes", *CALLS)
_JUDGES = ("judge", "judge_api_base", "second_judge", "second_judge_api_base")
MEASURES = ("program", "ablate", "controls", "only", *_JUDGES, "redact", *CALLS)


def options(*names: str) -> Decorator:
    """A decorator that gives a command these options, in the order of `--help`."""

    def decorate(command: Any) -> Any:
        for name in reversed(names):
            command = _OPTIONS[name](command)
        return command

    return decorate
