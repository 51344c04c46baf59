"""What so many users and calls a day take: `python -m benchmarks.capacity [--calls 1e9] [--gpu-dollars 2] …`.

It only computes. An input was measured in this repository, on the data that its help names, or it is an assumption:
give your own.
"""

from dataclasses import dataclass, field, fields

import click

_DAY = 86_400


def _measured(value: float, what: str, where: str) -> float:
    return field(default=value, metadata={"help": f"{what} Measured: {where}."})


def _assumed(value: float, what: str) -> float:
    return field(default=value, metadata={"help": f"{what} Assumed."})


@dataclass(frozen=True)
class Inputs:
    """What the plan is computed from."""

    items: float = _measured(9.4, "Items of a user's history.", "persona world, task 2")
    item_bytes: float = _measured(228, "Bytes of an item in the store, its index included.", "28,000 items in SQLite")
    answer_bytes: float = _measured(1252, "Bytes of an answer as `predict` writes it.", "persona world, task 2")
    request_bytes: float = _measured(1762, "Bytes of a row with its history.", "persona world, task 2")
    row_rate: float = _measured(547, "Rows a second that one core prepares, checks and writes.", "benchmarks.predict")
    prompt_tokens: float = _measured(398, "Tokens of a prompt with four items.", "estimate of r2p_dspy on task 2")
    answer_tokens: float = _measured(98, "Tokens of an answer with its stages.", "the same")
    calls_per_answer: float = _assumed(1.05, "Calls for an answer, corrections included.")
    kept_days: float = _assumed(30, "Days that answers are kept.")
    peak: float = _assumed(3, "Calls in the busiest second, as a multiple of the mean; 1 for a batch.")
    prefill_rate: float = _assumed(20_000, "Prompt tokens a second of one GPU, an 8 B model under vLLM.")
    decode_rate: float = _assumed(2_500, "Answer tokens a second of one GPU, many calls at once.")
    cached_share: float = _assumed(0.0, "Share of a prompt that the prefix cache of its server holds.")
    gpu_dollars: float = _assumed(3.0, "Dollars of a GPU for an hour.")
    core_dollars: float = _assumed(0.04, "Dollars of a CPU core for an hour.")
    gigabyte_dollars: float = _assumed(0.10, "Dollars of a gigabyte of replicated disk for a month.")
    million_prompt_dollars: float = _assumed(0.15, "Dollars of a million prompt tokens of an API.")
    million_answer_dollars: float = _assumed(0.60, "Dollars of a million answer tokens of an API.")


@dataclass(frozen=True)
class Plan:
    """What a number of users and calls a day take, by step."""

    users: float
    calls: float
    inputs: Inputs

    @property
    def store_bytes(self) -> float:
        """Bytes of all histories."""
        return self.users * self.inputs.items * self.inputs.item_bytes

    @property
    def kept_bytes(self) -> float:
        """Bytes of the answers that are kept."""
        return self.calls * self.inputs.answer_bytes * self.inputs.kept_days

    @property
    def rate(self) -> float:
        """Answers in the busiest second."""
        return self.calls / _DAY * self.inputs.peak

    @property
    def cores(self) -> float:
        """CPU cores for everything but the model."""
        return self.rate / self.inputs.row_rate

    @property
    def prompt_tokens(self) -> float:
        """Tokens of prompts a day, those of corrections included."""
        return self.calls * self.inputs.calls_per_answer * self.inputs.prompt_tokens

    @property
    def answer_tokens(self) -> float:
        """Tokens of answers a day."""
        return self.calls * self.inputs.calls_per_answer * self.inputs.answer_tokens

    @property
    def gpus(self) -> float:
        """GPUs in the busiest second."""
        given = self.inputs
        prefill = self.prompt_tokens * (1 - given.cached_share) / given.prefill_rate
        return (prefill + self.answer_tokens / given.decode_rate) / _DAY * given.peak

    def dollars(self) -> dict[str, float]:
        """Dollars a day by step, with GPUs of one's own."""
        given = self.inputs
        stored = (self.store_bytes + self.kept_bytes) / 1e9 * given.gigabyte_dollars / 30
        return {
            "GPUs": max(self.gpus, 1) * 24 * given.gpu_dollars,
            "cores": max(self.cores, 1) * 24 * given.core_dollars,
            "disk": stored,
        }

    def api_dollars(self) -> float:
        """Dollars a day of an API in place of GPUs."""
        given = self.inputs
        prompts = self.prompt_tokens * given.million_prompt_dollars
        return (prompts + self.answer_tokens * given.million_answer_dollars) / 1e6

    def bottleneck(self) -> tuple[str, float]:
        """The step that takes most of the money, and its share."""
        dollars = self.dollars()
        step = max(dollars, key=lambda name: dollars[name])
        return step, dollars[step] / sum(dollars.values())


def table(plans: list[Plan]) -> str:
    """The plans side by side, as a Markdown table."""
    names = [f"{number(plan.users)} users, {number(plan.calls)} calls a day" for plan in plans]
    rows: list[tuple[str, list[str]]] = [
        ("histories in the store", [size(plan.store_bytes) for plan in plans]),
        (f"answers of {plans[0].inputs.kept_days:g} days", [size(plan.kept_bytes) for plan in plans]),
        ("answers in the busiest second", [number(plan.rate) for plan in plans]),
        ("read and written in that second", [size(plan.rate * _traffic(plan)) for plan in plans]),
        ("cores for all but the model", [number(plan.cores) for plan in plans]),
        ("prompt tokens a day", [number(plan.prompt_tokens) for plan in plans]),
        ("answer tokens a day", [number(plan.answer_tokens) for plan in plans]),
        ("GPUs", [number(plan.gpus) for plan in plans]),
        *[(f"dollars a day: {step}", [number(plan.dollars()[step]) for plan in plans]) for step in plans[0].dollars()],
        ("dollars a day of an API in place of GPUs", [number(plan.api_dollars()) for plan in plans]),
        ("most of the money", ["{} ({:.0%})".format(*plan.bottleneck()) for plan in plans]),
    ]
    lines = [["", *names], ["---"] * (1 + len(plans)), *([label, *cells] for label, cells in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _traffic(plan: Plan) -> float:
    return plan.inputs.request_bytes + plan.inputs.answer_bytes


def number(value: float) -> str:
    """Two figures of a number, in words for thousands and more.

    Examples:
        >>> number(0.42), number(12.3), number(4321), number(2.5e9)
        ('0.42', '12', '4.3 thousand', '2.5 billion')
    """
    for size_of, name in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if value >= size_of:
            return f"{float(f'{value / size_of:.2g}'):g}{name}"
    return f"{float(f'{value:.2g}'):g}"


def size(value: float) -> str:
    """Two figures of a number of bytes.

    Examples:
        >>> size(2100), size(3.7e12)
        ('2.1 KB', '3.7 TB')
    """
    units = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1, "bytes"))
    least, name = next(unit for unit in units if value >= unit[0] or unit[0] == 1)
    return f"{float(f'{value / least:.2g}'):g} {name}"


@click.command()
@click.option("--users", type=float, help="Plan for so many users; default: a million, then a billion.")
@click.option("--calls", type=float, help="Plan for so many calls a day; default: one for each user.")
def main(users: float | None, calls: float | None, **given: float) -> None:
    """Print what users and calls a day take."""
    inputs = Inputs(**given)
    counts = [1e6, 1e9] if users is None else [users]
    print(table([Plan(count, count if calls is None else calls, inputs) for count in counts]))


for _input in fields(Inputs):
    _flag = f"--{_input.name.replace('_', '-')}"
    main = click.option(_flag, default=_input.default, show_default=True, help=_input.metadata["help"])(main)


if __name__ == "__main__":
    main()
