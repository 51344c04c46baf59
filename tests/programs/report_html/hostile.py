"""A run whose users, model and ids write what would be markup, scripts or controls, if a page let them."""

import json
from pathlib import Path

from click.testing import CliRunner

import cli
from tests.endpoint import Endpoint

EVIL = (
    "</script><script>document.title='owned';alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{ 7*7 }}{% raw %}${alert(1)}",
    "<!-- <script> --> ]]>",
    "\u202eforged\u2066 \u2028line\u2029end",
    "a\x00b\x1b[2J\x7f\x85",
    "\" autofocus onfocus=alert(1) x='",
    "المنارة تحت المطر <b>",
    "灯台と雨 <svg onload=alert(1)>",
    "https://example.org/x.png javascript:alert(1)",
)
ALL = " ".join(EVIL)
EXAMPLES = Path(cli.__file__).parent / "examples" / "mail"


def rows(count=8):
    """Rows of several users, in which every text holds every hostile one."""
    for number in range(count):
        yield {
            "id": f"{number} {ALL}",
            "user": f"user {number} {ALL}",
            "mail": f"mail {number} {ALL} end",
            "subject": f"gold {number} {ALL}",
            "profile": [{"id": f"m{number} {ALL}", "text": f"item {number} {ALL} end", "subject": f"was {ALL}"}],
        }


def answer(body):
    """An answer that quotes the first item, and says hostile things in every stage."""
    prompt = "\n".join(str(message["content"]) for message in body["messages"])
    shown = [json.loads(line) for line in prompt.splitlines() if line.startswith('{"item": "1"')]
    quote = shown[-1]["text"] if shown else ""
    evil = ALL.replace("[[", "")
    fields = {
        "reasoning": evil,
        "requirements": evil,
        "evidence": json.dumps([{"item": "1", "quote": quote}, {"item": "9", "quote": evil}]),
        "preferences": json.dumps([{"statement": evil, "items": ["1"], "label": None}]),
        "draft": evil,
        "verification": json.dumps({"approved": True, "reason": evil}),
        "subject": evil,
    }
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()) + "\n\n[[ ## completed ## ]]"


def hostile_run(folder, *more, command="evaluate"):
    """Evaluate on the hostile rows, or sweep; the run's directory."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    with Endpoint(answer) as endpoint:
        result = CliRunner().invoke(
            cli.cli,
            [
                command,
                *("--task", str(EXAMPLES / "task.yaml"), "--data", str(folder / "rows.jsonl")),
                *("--model", "openai/m", "--api-base", endpoint.api_base, "--output", str(folder / "run"), *more),
            ],
            env={"OPENAI_API_KEY": "none"},
            catch_exceptions=False,
        )
    assert result.exit_code in (0, 3), result.output
    return folder / "run"
