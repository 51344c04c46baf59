"""What servers on this machine are asked and answer in campaigns: rows of persona users, and an answer that cites."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.overhead import _ANSWER
from programs.data.personas import films
from programs.data.personas.world import draw, lamp_files
from programs.tasks import lamp2

_ITEM = re.compile(r'^\{"item": "1".*$', re.MULTILINE)


def citing(body: dict[str, Any]) -> str:
    """An answer that cites the first item of the prompt, in the format of every program of the command line."""
    shown = _ITEM.findall(body["messages"][-1]["content"]) or ['{"description": "nothing"}']
    item = json.loads(shown[-1])
    quote, label = " ".join(item["description"].split()[:3]), item.get("label", "comedy")
    return "[[ ## reasoning ## ]]\nas item 1\n\n" + _ANSWER.format(quote=quote, label=label)


def write_rows(path: Path, count: int) -> Path:
    """Write rows of so many persona users, which are synthetic, for `predict`."""
    rows = lamp_files(lamp2.TASK, draw(films.case, "train", count))[0]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
