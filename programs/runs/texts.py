"""Which files of a run hold users' texts, and so are to be protected as the histories are."""

import re

# By the ends of their paths. `docs/security.md` lists them; `python -m benchmarks.sentinels` looks for others.
HOLD_TEXTS = {
    "results/": "each measured row: answer, gold; unreadable replies and a judge's reasons, but not with `--redact`",
    "transcripts/": "prompts, completions, reasoning and evidence of each measured row; not with `--redact`",
    "report.html": "the same, to be read; with `--redact` it holds ids, verdicts and numbers alone",
    "failed.jsonl": "failed rows, with the server's words, which may repeat a prompt; not with `--redact`",
    "NAME.failed.jsonl": "the same of `predict`, beside its answers",
    "submissions/NAME.json": "answers in LaMP's format",
    "program.json": "demos, and instructions that quote them; not with `--redact`",
    "calls/ledger.sqlite": "the call cache: models' answers, packed; also NAME.calls/, and SQLite's -wal and -shm",
    "traces/": "what a student learns from: prompts and answers, also as the trainer reads them (.cache)",
    "samples.jsonl": "what a student wrote while it was trained",
    "training/": "of a run that trains: rows, samples, checkpoints",
    "optimizer/": "what an optimizer tried: candidates, their instructions and examples",
}
_PATTERNS = (
    r"(results|transcripts|traces|training|optimizer)/.+",
    r"report\.html",
    r"(failed|[^/]+\.failed|samples)\.jsonl",
    r"submissions/[^/]+\.json",
    r"program\.json",
    r"(calls|[^/]+\.calls)/ledger\.sqlite(-wal|-shm)?",
)


def holds_texts(path: str) -> bool:
    """Whether a file below a run's directory says that it holds users' texts.

    Examples:
        >>> holds_texts("run/results/r2p.jsonl"), holds_texts("run/config.json")
        (True, False)
    """
    return any(re.search(rf"(^|/){pattern}$", path) for pattern in _PATTERNS)
