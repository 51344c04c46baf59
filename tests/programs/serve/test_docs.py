"""The page that leads from a clone to a running service does what it says."""

import json
import re
import shlex
from pathlib import Path

from tests.programs.serve.running import serving

PAGE = Path(__file__).parents[3] / "docs/production.md"


def test_the_requests_of_the_page(tmp_path):
    shell = re.findall(r"```\n(curl .*?)```", PAGE.read_text(), re.DOTALL)[0]
    commands = re.findall(r"curl .*?(?=\ncurl|\Z)", shell.replace("\\\n", " "), re.DOTALL)
    answer = {}
    with serving(tasks=[], own_model=True, store=f"sqlite:///{tmp_path}/histories.sqlite") as client:
        for command in commands:
            words = shlex.split(command)
            assert words[:2] == ["curl", "-s"] and words[3] == "-H" and words[5] == "-d"
            body = json.loads(words[6].replace("ID", answer.get("id", "ID")))
            response = client.post(words[2].removeprefix("localhost:8000"), json=body)
            assert response.status_code in (200, 201), response.text
            answer = response.json() if "outputs" in response.json() else answer
    assert len(commands) == 3 and {*answer["evidence"][0]} == {"item", "quote"}


def test_the_options_of_the_page():
    from programs.serve.command import serve

    lines = re.findall(r"python cli.py serve (.*)", PAGE.read_text())
    known = {flag for option in serve.params for flag in option.opts}
    assert {word for line in lines for word in line.split() if word.startswith("--")} <= known
