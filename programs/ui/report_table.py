"""A report on the terminal: one table with a row per program, and what it leaves out in lines below it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from metrics.intervals import Interval
from programs.evaluate.ablation import FULL, TEMPLATE
from programs.evaluate.baselines import VOTE
from programs.optimize.estimate import in_words
from programs.runs.directory import FAILED
from programs.tasks.task import Task
from programs.ui.terminal import interval_text, output, print_texts
from programs.ui.terminal import table as new_table
from r2p_dspy.prompting.causes import REMEDIES

Report = Mapping[str, Any]


def print_report(report: Report, directory: Path) -> None:
    """Print a report to stdout as tables and a few lines, the last of which says where everything is."""
    if report["programs"]:
        output().print(_table(report))
        print_texts(f"note: {warning}" for warning in report.get("warnings", ()))
        print_texts(_comparisons(report))
        if "tuning" in report:
            _print_tuning(report["tuning"])
        print_texts(_compiling(report.get("compiling", {})))
    print_texts(
        [*_calls(report), f"{report['seconds']:.0f} s; everything is in {directory}; report.html shows every example"]
    )


def print_scores(task: Task, examples: int, scores: Mapping[str, Interval]) -> None:
    """Print what a file of predictions scores to stdout: each metric with its 95 % interval."""
    table = new_table("metric", "value (95 %)", title=f"{task.name} ({task.shape}), {examples} examples")
    for name, interval in scores.items():
        table.add_row(name, escape(interval_text(interval._asdict())))
    output().print(table)


def _table(report: Report) -> Table:
    first = next(iter(report["programs"].values()))
    judged = report.get("judge", {}).get("programs", {})
    facts = (report["task"], report["data"], f"{report['examples']} examples", report["lm"], f"k={report['k']}")
    table = new_table(title=escape(" · ".join(facts)))
    table.add_column("program", no_wrap=True)
    for name in [*first["metrics"], *(["judge"] if judged else [])]:
        table.add_column(f"{name} (95 %)", justify="right", no_wrap=True)
    columns = ["compliance first/final", "evidence first/final", "unparsed", "calls", "tokens in/out", "seconds"]
    any_failed = any(entry["failed_rows"] for entry in report["programs"].values())
    columns += ["failed"] * any_failed
    columns += ["passes", "for a correct answer: tokens/passes/seconds"] if _ablated(report) else []
    for column in columns:
        table.add_column(column, justify="right")
    for name, entry in report["programs"].items():
        intervals = [*entry["metrics"].values(), *([judged[name]] if judged else [])]
        table.add_row(
            name,
            *(escape(interval_text(interval)) for interval in intervals),
            _percentages(entry["compliance_first"], entry["compliance"]),
            _percentages(entry["evidence_validity_first"], entry["evidence_validity"]),
            str(sum(entry["parse_failures"].values())),
            str(entry["calls"]),
            f"{entry['tokens']['prompt']}/{entry['tokens']['completion']}",
            f"{entry['seconds']:.0f}",
            *([str(sum(entry["failed_rows"].values()))] if any_failed else []),
            *([_count(entry["forward_passes"]), _per_correct(entry["per_correct"])] if _ablated(report) else []),
        )
    return table


def _count(number: float | None) -> str:
    return "–" if number is None else f"{number:.0f}"


def _per_correct(costs: Mapping[str, float | None] | None) -> str:
    if costs is None:
        return "–"
    return f"{_count(costs['tokens'])}/{_count(costs['forward_passes'])}/{costs['seconds']:.2f}"


def _ablated(report: Report) -> bool:
    return "not_runnable" in report


def _comparisons(report: Report) -> Iterator[str]:
    """What the programs are compared with: trivial baselines, users' means, a judge, each other."""
    programs = report["programs"]
    first = next(iter(programs.values()))
    metric = next(iter(first["metrics"]))
    for name, lowest in report.get("floors", {metric: first["baselines"]}).items():
        yield f"trivial baselines ({name}): {', '.join(f'{rule} {value:.3f}' for rule, value in lowest.items())}"
    if "per_user" in first:
        means = ", ".join(f"{name} {interval_text(entry['per_user'][metric])}" for name, entry in programs.items())
        yield f"{metric}, mean of the means of {first['users']} users (95 %): {means}"
    for name, entry in programs.items():
        if entry["failed_rows"]:
            yield f"{name}: {failed_in_words(entry['failed_rows'])}; docs/production.md says which have a score"
        for cause, count in entry["parse_failures"].items():
            advice = f"; {REMEDIES[cause]}" if cause in REMEDIES else ""
            yield f"{name}: {count} answers cannot be read ({cause}){advice}"
    if "judge" in report:
        yield from _judge(report["judge"])
    for name, grounded in report.get("grounding", {}).items():
        yield _grounding(name, grounded)
    for base in (TEMPLATE, FULL) if _ablated(report) else ("cot", VOTE) if "compiling" in report else ():
        if base in report["differences"]:
            differences = "; ".join(
                f"{name} {interval_text(by_metric[metric], '+')}"
                for name, by_metric in report["differences"][base].items()
            )
            yield f"{metric}, paired difference to {base} (95 %): {differences}"
    for program, reason in report.get("not_runnable", {}).items():
        yield f"{program} cannot run here: {reason}"


def failed_line(report: Report, directory: Path) -> str | None:
    """How many rows of a report failed, and the file that lists them; None if no row did."""
    judge = report.get("judge", {})
    entries = [*report["programs"].values(), judge, judge.get("second", {}), report.get("tuning", {})]
    count = sum(sum(entry.get("failed_rows", {}).values()) for entry in entries)
    return f"{count} rows failed, see {directory / FAILED}" if count else None


def failed_in_words(causes: Mapping[str, int]) -> str:
    """How many rows failed, and why.

    Examples:
        >>> failed_in_words({"timeout": 2, "server": 1})
        '3 rows failed (2 timeout, 1 server)'
    """
    counts = ", ".join(f"{count} {cause}" for cause, count in causes.items())
    return f"{sum(causes.values())} rows failed ({counts})"


def _grounding(program: str, grounded: Mapping[str, Any]) -> str:
    """How much of the evidence that matters a program cites, and whether its answers follow what they cite."""
    known = "" if grounded["known_support"] else ", of items without which the score falls"
    words = {"evidence_recall": f"evidence recall{known}", "faithfulness": "faithfulness"}
    words["faithfulness_shuffled"] = "with shuffled citations"
    values = [f"{said} {'–' if grounded[key] is None else interval_text(grounded[key])}" for key, said in words.items()]
    if (gain := grounded.get("faithfulness_gain")) is not None:  # reports of earlier versions lack it
        values.append(f"gain over these {interval_text(gain, '+')}")
    return f"{program}, groundedness (95 %): {', '.join(values)}"


def _judge(judge: Mapping[str, Any]) -> Iterator[str]:
    for pair, result in judge["pairwise"].items():
        first = "" if result["first_place"] is None else f", the first place {100 * result['first_place']:.0f} %"
        yield f"judge, {pair}: wins {interval_text(result)}, ties {100 * result['ties']:.0f} %{first}"
    if "baselines" in judge:
        floors = ", ".join(f"{name} {value:.3f}" for name, value in judge["baselines"].items())
        yield f"judge, trivial baselines: {floors}"
    if (both := judge.get("agreement", {})).get("verdicts"):
        kappa = "–" if both["kappa"] is None else f"{both['kappa']:.3f}"
        same, more = interval_text(both["exact"]), interval_text(both["difference"], "+")
        yield f"judges agree on {same} of {both['verdicts']} verdicts, kappa {kappa}; the first gives {more} more"
        means = ", ".join(f"{name} {interval_text(mean)}" for name, mean in judge["second"]["programs"].items())
        yield f"second judge: {means}"
    for model in (judge, judge["second"]) if "second" in judge else (judge,):
        if model.get("failed_rows"):
            yield f"judge: {failed_in_words(model['failed_rows'])}; they have no judgement"
        tokens = f"{model['tokens']['prompt']}/{model['tokens']['completion']}"
        yield f"judge {model['lm']}: {model['calls']} calls, tokens in/out {tokens}, {model['seconds']:.0f} s"


def _compiling(compiling: Mapping[str, Any]) -> Iterator[str]:
    """Which program won on dev, by what score, and what failed."""
    if compiling.get("optimizer", "none") == "none":
        return
    scores = ", ".join(f"{name} {score}" for name, score in compiling["dev_scores"].items())
    none = "no candidate was rated" if "stopped" in compiling else "no training example passes the gate"
    result = f"won on dev ({scores})" if scores else f"stays: {none}"
    yield f"compiling: the {compiling['winner']} program {result}"
    if metric := compiling.get("metric"):
        parts = ", ".join(f"{part} {weight:g}" for part, weight in metric["weights"].items())
        yield f"score: {parts} ({metric['task']}; an answer passes from {metric['threshold']:g})"
    if objectives := compiling.get("objectives"):
        parts = ", ".join(
            f"{part} {kept['best']:.3f} (candidate {', '.join(map(str, kept['candidates']))})"
            for part, kept in objectives.items()
        )
        yield f"best on dev by part of the score, 0 being the uncompiled program: {parts}"
    if unanswered := compiling.get("unanswered"):
        yield f"{unanswered} dev examples count for no candidate, because the model's server failed on them"
    failures = {what: count for what, count in compiling.get("failures", {}).items() if count and what != "server"}
    if failures:
        counts = ", ".join(f"{count} of the {what}" for what, count in failures.items())
        yield f"failed while compiling, each scored 0: {counts}"


def _calls(report: Report) -> Iterator[str]:
    """Where the budget ended the run, what was estimated, and what was used."""
    for name, reason in report.get("unmeasured", {}).items():
        yield f"{name} was not measured: {reason}"
    if stopped := report.get("compiling", {}).get("stopped"):
        yield f"compiling stopped: {stopped}; program.json holds the best program so far"
    plan = report.get("plan", {})
    if plan.get("estimate"):
        yield f"estimated {in_words(plan['estimate'])}; took {in_words(plan['actual'])}"
    calls = report.get("calls", {})
    if calls.get("latency"):
        spent, replayed, latency = calls["spent"], calls["replayed"]["calls"], calls["latency"]
        price = f", ${spent['cost_usd']:,.2f}" if spent["cost_usd"] else ""
        cached = f"; {replayed:,} more came from the cache" if replayed else ""
        yield (
            f"used: {spent['calls']:,} calls, {sum(spent['tokens'].values()):,} tokens{price}{cached}; "
            f"a call took {latency['mean']:.2f} s, 95 % of the calls at most {latency['p95']:.2f} s"
        )


def _percentages(first: float | None, final: float | None) -> str:
    return "–" if first is None or final is None else f"{100 * first:.1f} / {100 * final:.1f} %"


def _print_tuning(tuning: Mapping[str, Any]) -> None:
    """Print the trials and finalists as tables, and what the winner reaches on the reported users."""
    output().print(_trials("tuning: settings on dev", tuning["trials"], tuning))
    if tuning["finals"]:
        output().print(_trials("finalists: on dev and train", tuning["finals"], tuning))
    lines = ["calls and tokens are per answer; of the settings within a standard error of the best, the cheapest wins"]
    if tuning["stopped"]:
        lines.append(f"tuning stopped early: {tuning['stopped']}")
    for name, baseline in tuning.get("baselines", {}).items():
        scores = ", ".join(
            f"{temperature}: {score:.3f}" for temperature, score in baseline.get("dev_scores", {}).items()
        )
        chains = f"{baseline['chains']} chains of thought, " if "chains" in baseline else ""
        chosen = f"temperature {baseline['temperature']:g} is best on dev ({scores})" if scores else "not tuned"
        lines.append(f"{name}: {chains}{chosen}")
    for name, result in tuning.get("test", {}).items():
        shares = [f"{100 * share:.0f} % of its {kind} tokens" for kind, share in result["tokens"].items() if share]
        difference = interval_text(result["difference"], "+")
        lines.append(f"{name}, paired difference to r2p (95 %): {difference}; {', '.join(shares)}")
    print_texts(lines)


def _trials(title: str, trials: Sequence[Mapping[str, Any]], tuning: Mapping[str, Any]) -> Table:
    table = new_table(title=title)
    table.add_column("trial", justify="right")
    table.add_column("setting", overflow="fold")
    for column in ("composite (95 %)", "difference to start (95 %)", "calls", "tokens out/all"):
        table.add_column(column, justify="right")
    table.add_column("")
    settings = [trial["setting"] for trial in tuning["trials"]]
    for trial in trials:
        notes = [name for name in ("start", "best", "winner") if trial["setting"] == tuning[name]]
        notes += ["frontier"] * bool(trial["frontier"])
        notes += [f"given up after {trial['examples']} examples"] * trial["given_up"]
        table.add_row(
            str(settings.index(trial["setting"])),
            escape(trial["setting"]),
            escape(interval_text(trial["score"])),
            escape(interval_text(trial["difference"], "+")),
            f"{trial['calls']:.2f}",
            f"{trial['tokens']['completion']:.0f}/{trial['tokens']['all']:.0f}",
            ", ".join(notes),
        )
    return table
