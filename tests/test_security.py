"""What a stranger's compiled program cannot do: choose a server, a provider, a download or a path."""

import json
import socket
import threading

import pytest
from click.testing import CliRunner

import cli
import programs
from programs.tasks.program import R2PConfig
from r2p_dspy import ArtifactError, ConfigError, connect
from r2p_dspy.retrieval.embedders import embedder


@pytest.fixture
def listener():
    """A port on which nobody should call; `calls` counts who does."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    calls, over = [], threading.Event()

    def listen():
        while not over.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            calls.append(connection.recv(1000))
            connection.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", calls
    over.set()
    thread.join()
    server.close()


def artifact(folder, **settings):
    """The compiled program that ships, with other settings."""
    content = json.loads((programs.COMPILED / "lamp2.json").read_text())
    path = folder / "program.json"
    path.write_text(json.dumps(content | {"settings": settings}))
    return path


def chosen_by_a_file(folder, address):
    """Retrievers that send texts away, download weights or open a path."""
    return [
        f"dense:oobabooga/{address}",
        f"dense:huggingface/{address}",
        f"hybrid:openai/{address}",
        "dense:openai/text-embedding-3-small",
        "dense:facebook/contriever",
        f"dense:{folder}",
        "dense:hf:facebook/contriever",
        "dense",
        "google",
        "bm25:x",
        "",
        "x" * 100_000,
        "bm25\x1b[2J",
    ]


def rows(folder):
    path = folder / "rows.jsonl"
    row = {"id": "1", "description": "a lighthouse film", "profile": [{"id": "a", "description": "SECRET", "tag": "x"}]}
    path.write_text(json.dumps(row) + "\n")
    return path


def test_a_compiled_program_chooses_no_server_no_download_and_no_path(tmp_path, listener):
    address, calls = listener
    for name in chosen_by_a_file(tmp_path, address):
        path = artifact(tmp_path, retriever=name)
        for command in (
            ["predict", "--input", rows(tmp_path), "--task", "lamp2", "--output", tmp_path / "answers.jsonl"],
            ["evaluate", "--limit", 1, "--output", tmp_path / "run"],
            ["finetune", "--limit", 1, "--output", tmp_path / "tuned"],
        ):
            result = CliRunner().invoke(cli.cli, [*map(str, command), "--program", str(path)])
            assert result.exit_code == 2, (name[:50], command[0], result.output)
            assert result.stderr.count("\n") == 1 and len(result.stderr) < 1000 and "\x1b" not in result.stderr
            assert "--retriever" in result.stderr
        with pytest.raises(ArtifactError, match="--retriever"):
            programs.load("lamp2", path)
    assert not calls
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.json", "rows.jsonl"]


def test_the_user_names_a_retriever_instead(tmp_path):
    path = artifact(tmp_path, retriever="dense:facebook/contriever", k=2)
    assert R2PConfig.of(path, "recency") == R2PConfig(retriever="recency", k=2)
    assert programs.load("lamp2", path, retriever="recency").retriever.k == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "openai/x"},
        {"api_base": "http://127.0.0.1:9"},
        {"lm": {"api_key": "x"}},
        {"checks": "os:system"},
        {"template": "../../etc/passwd"},
        {"template": "__import__('os')"},
        {"k": -1},
        {"k": "4"},
        {"candidates": 10**9},
        {"reconcile": "eval"},
        {"carrier": "file"},
    ],
)
def test_settings_are_a_closed_list_of_harmless_values(settings, tmp_path):
    with pytest.raises((ArtifactError, ConfigError)):
        programs.load("lamp2", artifact(tmp_path, **settings))


@pytest.mark.parametrize("name", ["oobabooga/http://h", "huggingface/http://h", "openai/https://h/v1", "hf:http://h"])
def test_a_model_s_name_holds_no_address(name, listener):
    address, calls = listener
    name = name.replace("http://h", address).replace("https://h", address)
    for use in (connect, embedder):
        with pytest.raises(ConfigError, match="a name holds no address"):
            use(name)
    assert not calls
