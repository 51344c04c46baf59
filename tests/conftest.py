"""Shared by all tests: no network, no shared cache, and engines that say what a test wants."""

import os
import tempfile
from pathlib import Path

# Before anything imports them: no prices and no models from the network, nothing from an earlier run's cache.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DSPY_CACHEDIR"] = os.environ.get("DSPY_CACHEDIR", os.path.join(os.path.dirname(__file__), ".cache"))  # noqa: PTH118, PTH120

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from hypothesis import HealthCheck, settings

from tests.endpoint import Endpoint
from tests.scripted import AsyncScriptedEngine, ScriptedEngine

# How long an example takes says nothing on a machine that has other things to do.
settings.register_profile("unhurried", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


_TESTS = Path(__file__).parent
ADAPTERS = {"chat": dspy.ChatAdapter, "xml": dspy.XMLAdapter, "json": dspy.JSONAdapter, "baml": BAMLAdapter}


# The commands set the chat adapter themselves, and so do the examples' tests; frozen is the chat adapter's wording.
_ABOUT_CHAT = {
    "programs",
    "finetune",
    "metrics",
    "test_compatibility.py",
    "test_examples.py",
    "test_frozen_prompts.py",
    "test_readme.py",
    "test_your_task.py",
}


def pytest_addoption(parser):
    parser.addoption("--adapter", choices=[*ADAPTERS], default="chat", help="the adapter that all tests run under")


class TidyDoctests:
    """What a docstring's example leaves in a temporary folder goes when the example is over."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        if not isinstance(item, pytest.DoctestItem):
            return (yield)
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", folder)
            return (yield)


def pytest_configure(config):
    config.pluginmanager.register(TidyDoctests())  # hooks of this file itself see only the tests in its folder
    # Before the tests are imported: `tests.scripted.completion` writes the format of the adapter in use.
    if config.getoption("--adapter") != "chat":
        dspy.configure(adapter=ADAPTERS[config.getoption("--adapter")]())


def pytest_collection_modifyitems(config, items):
    adapter = config.getoption("--adapter")
    for item in items:
        if not item.path.is_relative_to(_TESTS):  # a doctest
            continue
        where = item.path.relative_to(_TESTS)
        if where.parts[0] in _ABOUT_CHAT or where.name.startswith("test_cli"):
            item.add_marker(pytest.mark.chat)
    skipped = {"chat": [], "xml": ["chat"]}.get(adapter, ["chat", "not_json"])
    for item in items:
        for name in skipped:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"marked {name}, and this is {adapter}"))


@pytest.fixture
def scripted():
    """scripted(text, …) configures a language model that writes these texts, one a call, and returns its engine."""

    def make(*texts, **attributes):
        engine = ScriptedEngine(*texts, **attributes)
        options = {"engine": engine, "async_engine": AsyncScriptedEngine(engine), "cache": False, "num_retries": 0}
        contexts.append(dspy.context(lm=dspy.LM("scripted/test", **options)))
        contexts[-1].__enter__()
        return engine

    contexts = []
    yield make
    for context in reversed(contexts):
        context.__exit__(None, None, None)


@pytest.fixture
def endpoint():
    """endpoint(reply, …) starts a chat endpoint that gives these replies and configures a model that asks it."""

    def start(*replies, **options):
        server = Endpoint(*replies)
        options = {"api_base": server.api_base, "api_key": "none", "cache": False, "num_retries": 0} | options
        contexts.append(dspy.context(lm=dspy.LM("openai/test", **options)))
        contexts[-1].__enter__()
        servers.append(server)
        return server

    contexts, servers = [], []
    yield start
    for context in reversed(contexts):
        context.__exit__(None, None, None)
    for server in servers:
        server.stop()
