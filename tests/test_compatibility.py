"""What works with what: every adapter, carrier, engine and output type together.

`docs/compatibility.md` shows the results, and what becomes of each kind of replies. To write it again:

    python -m tests.test_compatibility
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter

from metrics.evidence import valid
from programs.data.personas import MAKERS
from programs.data.personas.world import draw, example
from programs.tasks import TASKS
from r2p_dspy import R2P, R2PPrediction, connect
from r2p_dspy.errors import ConfigError
from tests.endpoint import Endpoint
from tests.film import HISTORY
from tests.right_model import RightEngine, question, served
from tests.test_cli_endpoints import READABLE, UNREADABLE
from tests.typed_answers import TYPES, typed_program

PAGE = Path(__file__).parents[1] / "docs" / "compatibility.md"
ADAPTERS = {"Chat": dspy.ChatAdapter, "XML": dspy.XMLAdapter, "JSON": dspy.JSONAdapter, "BAML": BAMLAdapter}
COLUMNS = [*product(ADAPTERS, ("fields", "thinking"))]
OUTPUTS = {
    "`str`": "str",
    "`Literal`": "Literal",
    "`Enum`": "Enum",
    "`int`": "int",
    "`float`": "float",
    "`bool`": "bool",
    "`date`": "date",
    "`list[str]`": "list",
    "`Optional[int]`": "Optional int",
    "the same, None": "Optional int, None",
    "a pydantic model": "pydantic",
}
POCKET = "The pocket model (`pocket`), on its own tasks"
POCKET_TASKS = {"`str` (headlines)": "lamp4", "`Literal` (movie tags)": "lamp2"}
REFUSED = (
    ("openai/o3", {"reasoning": True}),
    ("openai/gpt-4o", {"reasoning": True}),
    ("openai/o3", {"temperature": 0.5}),
    ("openai/o3", {"max_tokens": 1000}),
    ("pocket", {"api_base": "http://localhost:8000/v1"}),
)
RIGHT = served()
IN_JSON = "the answer comes as JSON, which was not asked for; it is read, and counted as not compliant"

Cells = dict[tuple[str, str, str], "Cell"]  # by row, adapter and carrier


@dataclass(frozen=True)
class Cell:
    """What came of a combination.

    Args:
        right: whether the answer is right, and its evidence valid.
        calls: how many calls it took.
        remarks: what the answer says about it; the error's message where there is no answer.
    """

    right: bool
    calls: int = 1
    remarks: tuple[str, ...] = ()


@contextmanager
def in_process() -> Iterator[tuple[dspy.LM, Callable[[], int]]]:
    engine = RightEngine()
    yield dspy.LM("scripted/test", engine=engine, cache=False), lambda: len(engine.requests)


@contextmanager
def chat_api(model="openai/mine", reply=RIGHT, **options) -> Iterator[tuple[dspy.LM, Callable[[], int]]]:
    with Endpoint(reply) as endpoint:
        yield connect(model, api_base=endpoint.api_base, cache=False, **options), lambda: endpoint.asked


ENGINES = {
    "A model in this process that thinks": in_process,
    "A chat API without reasoning": chat_api,
    "A chat API with reasoning (`reasoning_content`)": partial(chat_api, reply=served(thinks=True), reasoning=True),
    "A server that answers in JSON, whatever it is asked": partial(chat_api, reply=served(json_alone=True)),
    "The same, with reasoning": partial(chat_api, reply=served(thinks=True, json_alone=True), reasoning=True),
    "A model that hides its thoughts (`openai/o3`)": partial(chat_api, "openai/o3"),
}


def cell_of(ask: Callable[[], R2PPrediction], calls: Callable[[], int], answer: str, value: Any) -> Cell:
    """Ask for an answer.

    Args:
        ask: asks R2P.
        calls: how many calls were made so far.
        answer: the name of the output.
        value: the right answer.
    """
    before = calls()
    try:
        prediction = ask()
    except Exception as error:
        return Cell(False, calls() - before, (f"{type(error).__name__}: {error}",))
    given = prediction[answer]
    right = (type(given), given) == (type(value), value) and not prediction.violations
    in_json = [IN_JSON] * (prediction.attempts[0].shape == "JSON")
    return Cell(right and valid(prediction) is True, calls() - before, (*prediction.warnings, *in_json))


def cells_of(engine) -> Cells:
    """The cells of an engine, for every output type."""

    def ask(output, adapter, carrier):
        program = typed_program(TYPES[output][0], carrier=carrier)
        with dspy.context(lm=lm, adapter=ADAPTERS[adapter]()):
            return program(film=question(output), profile=HISTORY)

    with engine() as (lm, calls):
        return {
            (name, *column): cell_of(partial(ask, output, *column), calls, "tag", TYPES[output][1])
            for (name, output), column in product(OUTPUTS.items(), COLUMNS)
        }


def pocket_cells() -> Cells:
    """The cells of the pocket model, on the first persona of a task for each type that its tasks have."""
    lm = connect("pocket", max_tokens=256, cache=False)

    def cell(row, adapter, carrier):
        task = TASKS[POCKET_TASKS[row]]
        [case] = draw(MAKERS[task.name], "dev", 1)
        asked = example(task, case)
        program = R2P(task.signature, checks=task.checks, carrier=carrier)
        with dspy.context(lm=lm, adapter=ADAPTERS[adapter]()), dspy.track_usage() as usage:
            ask = partial(program, **asked.inputs())
            return cell_of(ask, lambda: sum(map(len, usage.usage_data.values())), task.answer, asked[task.answer])

    cells = [(row, *column) for row, column in product(POCKET_TASKS, COLUMNS)]
    with ThreadPoolExecutor(len(cells)) as pool:
        return dict(zip(cells, pool.map(lambda each: cell(*each), cells), strict=True))


# The page: its prose stands in the file, and the tables between comments.


def results(tables: dict[str, Cells]) -> str:
    """A table for each engine, and the remarks of all of them."""
    remarks: list[str] = []
    sections = [f"### {name}\n\n{_table(cells, remarks)}" for name, cells in tables.items()]
    legend = "\n".join(f"- ({_letter(number)}) {remark}" for number, remark in enumerate(remarks))
    return "\n\n".join([*sections, f"### Remarks\n\n{legend}"])


def refusals() -> str:
    """What `connect` refuses, in its words."""
    lines = ["| asked for | the error |", "|---|---|"]
    for model, options in REFUSED:
        with pytest.raises(ConfigError) as refused:
            connect(model, **options)
        settings = "".join(f", {name}={value!r}" for name, value in options.items())
        lines.append(f'| `connect("{model}"{settings})` | {refused.value} |')
    return "\n".join(lines)


def replies() -> str:
    """What becomes of each kind of replies; `tests.test_cli_endpoints` holds that it is so."""
    lines = ["| the server replies | R2P | calls | `predict`, `cot` | calls, each |", "|---|---|---|---|---|"]
    for kind in READABLE + UNREADABLE:
        r2p = f"`{kind.cause}`" if kind.cause else "right" if kind.compliant else "right, not compliant"
        cause = kind.cause if kind.baseline_cause is None else kind.baseline_cause
        baseline = f"`{cause}`" if cause else "right"
        lines.append(f"| {kind.words} | {r2p} | {kind.calls} | {baseline} | {kind.baseline_calls} |")
    return "\n".join(lines)


def with_tables(text: str, tables: dict[str, Cells]) -> str:
    """The page's text with new tables."""
    for name, part in {"results": results(tables), "refusals": refusals(), "replies": replies()}.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{part}\n{end}{rest.partition(end)[2]}"
    return text


def _table(cells: Cells, remarks: list[str]) -> str:
    """The cells of an engine; new remarks are added to the list."""
    columns = [f"{adapter}, {carrier}" for adapter, carrier in COLUMNS]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for row in dict.fromkeys(name for name, *_ in cells):
        lines.append(f"| {row} | {' | '.join(_shown(cells[row, *column], remarks) for column in COLUMNS)} |")
    return "\n".join(lines)


def _shown(cell: Cell, remarks: list[str]) -> str:
    remarks += [remark for remark in cell.remarks if remark not in remarks]
    letters = "".join(f" ({_letter(remarks.index(remark))})" for remark in cell.remarks)
    return f"{cell.calls if cell.right else 'no'}{letters}"


def _letter(number: int) -> str:
    return ascii_lowercase[number]


def all_tables() -> dict[str, Cells]:
    with ThreadPoolExecutor(len(ENGINES)) as pool:
        cells = [*pool.map(cells_of, ENGINES.values())]
    return dict(zip(ENGINES, cells, strict=True)) | {POCKET: pocket_cells()}


@pytest.fixture(scope="module")
def tables() -> dict[str, Cells]:
    return all_tables()


@pytest.mark.parametrize("engine", [*ENGINES, POCKET])
def test_right_answer_takes_one_call(engine, tables):
    lost = {combination: cell for combination, cell in tables[engine].items() if not cell.right or cell.calls != 1}
    assert lost == {}


def test_page_shows_the_results(tables):
    text = PAGE.read_text()
    assert text == with_tables(text, tables), "write it again with python -m tests.test_compatibility"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(), all_tables()))
