"""The template of a task's programs where nobody names one."""

import pytest
from click.testing import CliRunner

import cli
from programs import load
from programs.runs.configs import EvaluateConfig
from programs.tasks.program import resolve
from r2p_dspy.template import WITH_PLAIN

DEFAULTS = {
    ("lamp2",): "full",
    ("commits",): "full",
    ("longlamp-topic",): "outline",
    ("lampqa-art",): "aspects",
    ("longlamp-topic", "longlamp-review"): "outline",
    ("longlamp-topic", "lamp2"): "full",
    (): "full",
}


@pytest.mark.parametrize(("tasks", "template"), DEFAULTS.items())
def test_long_answers_are_planned_and_not_drafted(tasks, template):
    assert resolve({}, None, *tasks).template == template
    assert resolve({"template": "brief"}, None, *tasks).template == "brief", "what is given explicitly stands"


@pytest.mark.parametrize("task", ["longlamp-topic", "lampqa-art"])
def test_their_points_rest_on_evidence(task):
    stages = [stage.name for stage in load(task).reason.template.leaves()]
    assert stages == ["evidence", "preferences"], "what the checks look at"


def test_auto_is_what_is_taken_by_default():
    config = EvaluateConfig.of(task="longlamp-topic")
    assert config.program.r2p.template == "outline" and "template" not in config.program.explicit
    told = CliRunner().invoke(cli.cli, ["evaluate", "--help"]).output
    assert all(name in told for name in ("auto", *WITH_PLAIN))
