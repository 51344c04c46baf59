"""A model in this process against `generate()` and vLLM's server: `python -m benchmarks.throughput --model smollm2`.

All answer the same prompts, made of random words, of which a half is the same in all. Each is asked twice: cold, and
with what it remembers of the prompts. Rates are of all tokens, read and written, a second. With `--vllm` the server of
`make vllm` is started for the same weights, and stopped before the others run.
"""

import random
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click

from r2p_dspy.engines import weights

_UP = 600  # seconds that a server may take to start
_ALONE = 4  # prompts that are answered one by one


@click.command()
@click.option("--model", default="smollm2", show_default=True, help="smollm2, pocket, gguf:FILE or hf:DIR.")
@click.option("--prompts", default=32, show_default=True, help="So many prompts.")
@click.option("--tokens", default=828, show_default=True, help="Tokens of a prompt.")
@click.option("--written", default=64, show_default=True, help="Tokens of an answer.")
@click.option("--in-flight", default=16, show_default=True, help="Calls at a time.")
@click.option("--vllm/--no-vllm", default=False, show_default=True, help="Also measure vLLM's server.")
def main(model: str, prompts: int, tokens: int, written: int, in_flight: int, vllm: bool) -> None:
    """Print tokens per second, cold and warm, and the peak memory of the engine in this process."""
    name = weights.made(model.removeprefix("hf:"))
    rates: dict[str, list[float]] = {}
    texts = _texts(name, prompts, tokens)
    rates["this engine"] = _rates(_ask_engine(model, written), texts, tokens + written, in_flight)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    if vllm:
        with _server(name) as url:
            rates["vLLM"] = _rates(_ask_server(url, written), texts, tokens + written, in_flight)
    rates["generate(), one by one"] = _rates(_generate(model, written), texts[:_ALONE], tokens + written, 1)
    for engine, (cold, warm) in rates.items():
        click.echo(f"{engine:24s} cold {cold:7.0f} tokens/s   warm {warm:7.0f} tokens/s")
    own, alone = rates["this engine"], rates["generate(), one by one"]
    click.echo(f"this engine / generate() cold {own[0] / alone[0]:5.1f}   warm {own[1] / alone[1]:5.1f}")
    if vllm:
        served = rates["vLLM"]
        click.echo(f"this engine / vLLM       cold {own[0] / served[0]:5.2f}   warm {own[1] / served[1]:5.2f}")
    click.echo(f"peak memory of this engine's process {peak:6.0f} MB")


def _texts(name: str, count: int, tokens: int) -> list[str]:
    """Prompts of about so many tokens, of which the first half is the same in all."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name)  # nosec B615  # the user names it
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 7))) for _ in range(2000)]

    def text(length: int) -> str:
        ids = tokenizer(" ".join(rng.choices(words, k=length)), add_special_tokens=False)["input_ids"]
        return str(tokenizer.decode(ids[:length]))

    shared = text(tokens // 2)
    return [f"{shared}\n{text(tokens - tokens // 2)}" for _ in range(count)]


def _rates(ask: Callable[[str], None], texts: list[str], each: int, in_flight: int) -> list[float]:
    """All tokens a second, cold and then warm."""
    rates = []
    with ThreadPoolExecutor(in_flight) as pool:
        for _ in ("cold", "warm"):
            start = time.perf_counter()
            for _ in pool.map(ask, texts):
                pass
            rates.append(each * len(texts) / (time.perf_counter() - start))
    return rates


def _ask_engine(model: str, written: int) -> Callable[[str], None]:
    from dspy.lm15 import Config, Message, Request

    from r2p_dspy.engines.local.engine import TransformersEngine

    engine = TransformersEngine(model)
    engine._batch.end = set()  # an answer is as long as it may be, as the server's

    def ask(text: str) -> None:
        config = Config(max_tokens=written, temperature=0.0)
        engine.complete(Request(engine.model_name, (Message.user(text),), config=config))

    return ask


def _generate(model: str, written: int) -> Callable[[str], None]:
    model_, tokenizer, _ = weights.load(model.removeprefix("hf:"), device="cpu", dtype=None)

    def ask(text: str) -> None:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        model_.generate(**inputs, max_new_tokens=written, min_new_tokens=written, do_sample=False)

    return ask


def _ask_server(url: str, written: int) -> Callable[[str], None]:
    import dspy

    options = {"max_tokens": written, "temperature": 0.0, "cache": False, "num_retries": 0, "timeout": 600}
    lm = dspy.LM(
        "hosted_vllm/measured", api_base=f"{url}/v1", extra_body={"ignore_eos": True, "min_tokens": written}, **options
    )

    def ask(text: str) -> None:
        lm(text)

    return ask


@contextmanager
def _server(model: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [f"VLLM_MODEL={model}", "VLLM_NAME=measured", f"VLLM_PORT={port}", "ARGS=--host 127.0.0.1"]
    process = subprocess.Popen(
        ["make", "--silent", "vllm", *settings],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + _UP
    try:
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise click.ClickException("vLLM's server did not start: try `make vllm`")
            time.sleep(1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        subprocess.run(["pkill", "-TERM", "-g", str(process.pid)], check=False)
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
