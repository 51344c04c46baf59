"""What a report makes of rows: intervals over users, means of users' means, trivial baselines that a task can have."""

import dspy
import pytest

from metrics.intervals import of_difference
from metrics.lamp import METRICS
from programs.data.dataset import PERSONA_WORLD, Data
from programs.evaluate.baselines import baselines, floors, trivial_baselines
from programs.evaluate.report import all_differences, build_report, differences, entry
from programs.evaluate.runner import measure
from programs.runs.cautions import cautions
from programs.runs.directory import Rows
from programs.runs.model import ModelConfig
from programs.tasks import TASKS, lamp4
from programs.tasks.program import R2PConfig
from programs.tasks.retrievers import default_retriever
from r2p_dspy import Profile, __version__
from tests.scripted import ScriptedEngine, completion

GOLDS = ["Rain On Monday", "Dry Tuesday", "Wednesday Off"]
INPUTS = ("article", "profile")


class Writes(dspy.Module):
    """A program that is right in the first two examples."""

    def forward(self, article, profile):
        return dspy.Prediction(headline="Nothing" if article == "2" else GOLDS[int(article)])


def rows_of(tmp_path, users):
    fields = [{"id": str(n), "article": str(n), "headline": gold, "profile": Profile()} for n, gold in enumerate(GOLDS)]
    named = [{**row, **({"user": users[n]} if users else {})} for n, row in enumerate(fields)]
    examples = [dspy.Example(**row).with_inputs(*INPUTS) for row in named]
    return measure(Writes(), examples, lamp4.TASK, Rows(tmp_path / "rows.jsonl"), 1, lambda: None)


@pytest.mark.parametrize(
    ("why", "users", "count"),
    [
        ("users are not known", (), None),
        ("each has one example, so there is nothing to weigh", ("ann", "bob", "cid"), None),
        ("one is not known", ("ann", "ann", None), None),
        ("one has two", ("ann", "ann", "bob"), 2),
    ],
)
def test_per_user_mean_weighs_users_equally(tmp_path, why, users, count):
    rows = rows_of(tmp_path, users)
    program = entry(lamp4.TASK, rows, {}, dspy.LM("local/none"))
    assert program["metrics"]["rouge1"]["value"] == pytest.approx(2 / 3, abs=1e-4), why
    assert program.get("users") == count, why
    if count:
        assert program["per_user"]["rouge1"] == {"value": 0.5, "low": 0.0, "high": 1.0}


def test_bootstrap_draws_whole_users(tmp_path):
    """Of the draws of two users one in four has the first alone, and one in four the second."""
    rows = rows_of(tmp_path, ("ann", "ann", "bob"))
    interval = entry(lamp4.TASK, rows, {}, dspy.LM("local/none"))["metrics"]["rouge1"]
    assert (interval["low"], interval["high"]) == (0, 1)
    nothing = [{**row, "answer": ""} for row in rows]
    interval = differences(lamp4.TASK, {"cot": nothing, "r2p": rows}, "cot")["r2p"]
    assert (interval["low"], interval["high"]) == (0, 1)


@pytest.mark.parametrize("program", ["predict", "cot"])
def test_endless_brackets_are_malformed(tmp_path, program):
    example = dspy.Example(id="1", description="a storm", profile=Profile(), tag="comedy").with_inputs(
        "description", "profile"
    )
    lm = dspy.LM("scripted/x", engine=ScriptedEngine(completion(reasoning="hm", tag="[" * 5000)), cache=False)
    with dspy.context(lm=lm):
        (row,) = measure(
            baselines(TASKS["lamp2"])[program], [example], TASKS["lamp2"], Rows(tmp_path / "x"), 1, lambda: None
        )
    assert row["parse_failure"] and row["answer"] is None and row["calls"] == 1


def test_no_per_user_f1_and_rmse():
    row = {"gold": "4", "answer": "5", "user": "ann", "violations": [], "violations_first": []}
    row |= dict.fromkeys(
        ("prompt_tokens", "completion_tokens", "parse_failure", "interventions", "calls", "seconds"), 0
    )
    row |= dict.fromkeys(("compliant", "compliant_first", "evidence", "evidence_first"))
    program = entry(TASKS["lamp3"], [row, row], {}, dspy.LM("local/none"))
    assert set(program["metrics"]) == {"mae", "rmse"} and set(program["per_user"]) == {"mae"}


def test_label_baselines_without_item_labels():
    """LaMP-1's items are papers; the most similar one's title is no answer."""
    history = Profile.of([{"id": "a", "title": "Parsing", "abstract": "We parse."}])
    fields = {"id": "1", "paper": "Parsing\n[1] A\n[2] B", "profile": history, "reference": "[1]"}
    examples = [dspy.Example(**fields).with_inputs("paper", "profile")]
    assert trivial_baselines(TASKS["lamp1"], examples, [])["most_similar"] == 1.0


@pytest.mark.parametrize("name", TASKS)
def test_most_similar_is_retrievers_first(name, monkeypatch):
    """LaMP-1's retrieval leaves the paper's own title out."""
    task = TASKS[name]
    question = "rain rain\n[1] storm\n[2] sea" if name == "lamp1" else "storm"
    items = [
        {"id": text, **dict.fromkeys(task.fields, f"{text} of {n}")} for n, text in enumerate(("rain", "storm", "x"))
    ]
    gold = {"narrative": "?", "aspects": [{"aspect": "?", "reason": "?", "evidence": "?"}]} if task.by_rubric else "?"
    example = dspy.Example(id="1", **{task.question: question, task.profile: Profile.of(items), task.gold: gold})
    rankings = []
    ranked = lambda self, *given: rankings.append(self.rank(*given)) or []  # noqa: E731
    monkeypatch.setattr("metrics.trivial_baselines.BM25.__call__", ranked)
    trivial_baselines(task, [example.copy(**{task.gold: (task.labels or (gold,))[0]})], [])
    first = default_retriever(task).rank(task.query_text(example), example[task.profile])[0]
    assert first.id == "storm" and rankings[0][0] == first


TOP = (
    "version", "command", "task", "split", "data", "model", "lm", "retriever", "k", "temperature", "constrain", "seed",
    "examples", "seconds", "programs", "differences",
)  # fmt: skip
ENTRY = {
    "metrics", "baselines", "compliance_first", "compliance", "evidence_validity_first", "evidence_validity",
    "parse_failures", "failed_rows", "violations", "calls", "forward_passes", "tokens", "tokens_per_answer",
    "seconds_per_answer", "cost_usd", "cost_per_correct",
}  # fmt: skip


def row(number, answer, gold, **changed):
    known = {"id": str(number), "user": None, "answer": answer, "gold": gold, "parse_failure": None, "calls": 2}
    known |= {"prompt_tokens": 100, "completion_tokens": 10, "seconds": 0.5, "latency": [0.2, 0.3], "interventions": 0}
    known |= {"compliant": None, "compliant_first": None, "evidence": None, "evidence_first": None}
    return known | {"violations": [], "violations_first": []} | changed


def built(rows, **extra):
    task = TASKS["lamp2"]
    examples = [
        dspy.Example(id=str(n), description="x", profile=Profile(), tag=gold).with_inputs("description", "profile")
        for n, gold in enumerate(("comedy", "action"))
    ]
    data = Data(examples, [], examples, "here", "test")
    model, lm = ModelConfig("pocket", seed=3), dspy.LM("local/none")
    settings = {"model": model, "lm": lm, "settings": R2PConfig(k=2), "retriever_tokens": None, "seconds": 1.23}
    return build_report("evaluate", task, data, rows, **settings, extra=extra)


def test_report_keys_are_fixed():
    rows = {name: [row(0, "comedy", "comedy"), row(1, "comedy", "action")] for name in ("predict", "r2p")}
    report = built(rows, judge={"lm": "x"})
    assert tuple(report)[: len(TOP)] == TOP
    assert [report[key] for key in ("version", "model", "lm", "k", "temperature", "seed", "constrain")] == [
        __version__, "pocket", "local/none", 2, 0.0, 3, "auto",
    ]  # fmt: skip
    assert report["judge"] == {"lm": "x"} and report["seconds"] == 1.2
    for part in report["programs"].values():
        assert part.keys() >= ENTRY
        assert (part["tokens_per_answer"], part["seconds_per_answer"], part["forward_passes"]) == (10.0, 0.5, None)
        assert (part["cost_usd"], part["cost_per_correct"], part["failed_rows"]) == (0.0, 0.0, {})
        assert part["metrics"]["accuracy"].keys() == {"value", "low", "high"}
    assert report["differences"].keys() == {"cot", "predict", "r2p"} and report["differences"]["cot"] is None
    assert report["differences"]["predict"]["r2p"].keys() == {"accuracy", "f1"}
    assert built({})["differences"] == {"cot": None, "predict": None, "r2p": None}


def test_cost_per_correct():
    rows = [row(0, "comedy", "comedy"), row(1, "comedy", "action")]
    program = entry(TASKS["lamp2"], rows, {}, dspy.LM("openai/gpt-4o-mini"))
    assert program["cost_usd"] > 0 and program["cost_per_correct"] == program["cost_usd"]
    wrong = entry(TASKS["lamp2"], rows[1:], {}, dspy.LM("openai/gpt-4o-mini"))
    assert wrong["cost_per_correct"] is None
    assert entry(TASKS["lamp2"], rows, {}, dspy.LM("some/model"))["cost_per_correct"] is None
    texts = entry(lamp4.TASK, [row(0, "Rain", "Rain")], {}, dspy.LM("openai/gpt-4o-mini"))
    assert texts["cost_per_correct"] is None, "free text is not right or wrong"


def test_parse_failures_are_counted_by_cause():
    """Rows of earlier versions only tell that an answer could not be read."""
    rows = [row(n, None, "comedy", parse_failure=cause) for n, cause in enumerate(("malformed", True, "refused"))]
    program = entry(TASKS["lamp2"], [*rows, row(3, "comedy", "comedy", parse_failure=False)], {}, dspy.LM("local/none"))
    assert program["parse_failures"] == {"malformed": 2, "refused": 1}


def test_all_differences_equal_single_ones():
    answers = {"cot": ["comedy", "action", "action"], "r2p": ["comedy", "comedy", "action"], "x": ["classic"] * 3}
    golds = ("comedy", "comedy", "action")
    rows = {name: [row(n, *pair) for n, pair in enumerate(zip(given, golds))] for name, given in answers.items()}
    by_base = all_differences(TASKS["lamp2"], rows)
    assert by_base["predict"] is None and by_base["r2p"].keys() == {"cot", "x"}
    for base in ("cot", "r2p"):
        first = {name: by_metric["accuracy"] for name, by_metric in by_base[base].items()}
        assert first == differences(TASKS["lamp2"], rows, base)
        for name, by_metric in by_base[base].items():
            for metric, difference in by_metric.items():
                pair = of_difference(METRICS[metric], answers[name], answers[base], golds, TASKS["lamp2"].labels)
                assert difference == pair.rounded()


def test_report_tells_its_cautions():
    few, f1, pocket = built({"r2p": [row(0, "comedy", "comedy"), row(1, "action", "action")]})["warnings"]
    assert few.startswith("only 2 examples: one answer moves a mean by 50 %")
    assert f1.endswith("13 of them are no right answer here and count 0, so f1 is at most 0.133")
    assert pocket.startswith("the pocket model knows only")


CHINESE = ["雨天的公园散步", "新书评论", "春季旅行计划"] * 7


OPENAI = ("openai/gpt-4o-mini", "rows.jsonl")


@pytest.mark.parametrize(
    ("why", "task", "golds", "model", "said"),
    [
        ("enough examples, all labels", "lamp1", ["[1]", "[2]"] * 10, ("pocket", PERSONA_WORLD), []),
        ("no examples, such as a run that was stopped", "lamp2", [], OPENAI, []),
        ("one example", "lamp4", ["Rain"], OPENAI, ["only 1 example: one answer moves a mean by 100 %"]),
        ("labels without f1", "lamp3", ["5"] * 20, OPENAI, []),
        ("absent labels", "lamp1", ["[1]"] * 20, OPENAI, ["f1 is the mean over all 2 labels, as in LaMP; 1 of"]),
        ("a script that ROUGE does not read", "lamp4", CHINESE, OPENAI, ["rouge1 gives 100 %", "rougeL gives 100 %"]),
        ("a few answers in another script", "lamp4", [*CHINESE, *["Rain"] * 30], OPENAI, []),
        ("pocket on other data", "lamp4", ["Rain"] * 20, ("pocket", "rows.jsonl"), ["the pocket model knows only its"]),
    ],
)
def test_cautions(why, task, golds, model, said):
    lines = cautions(TASKS[task], golds, *model)
    assert [line.startswith(start) for line, start in zip(lines, said, strict=True)] == [True] * len(said), why


def test_floors_in_every_metric():
    task, post = TASKS["longlamp-topic"], "It rained all day in May, and the sea was cold."
    history = Profile.of([{"id": "a", "summary": "the sea", "text": post}])
    fields = {"id": "1", "request": "Write of the sea.", "profile": history, "post": post}
    lowest = floors(task, [dspy.Example(**fields).with_inputs("request", "profile")], [])
    assert {*lowest} == {"rouge1", "rougeL", "meteor"} and {*lowest["meteor"]} == {"most_similar", "input"}
    assert lowest["rougeL"]["most_similar"] == 1 and lowest["meteor"]["most_similar"] > 0.99
    assert all(0 < values["input"] < 0.5 for values in lowest.values())
