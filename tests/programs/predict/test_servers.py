"""Predictions from several servers."""

import random
import subprocess
import sys
from pathlib import Path

import dspy

from programs.predict.run import predict
from programs.predict.writer import PredictionWriter
from r2p_dspy import connect
from tests.film import chat_completion, program
from tests.programs.predict.test_predict import TASK, lines, row, write

ROOT = Path(__file__).parents[3]
SERVER = """
import sys, time
from tests.faulty import FaultyServer
with FaultyServer(text=sys.argv[1]) as server:
    print(server.api_base, flush=True)
    time.sleep(600)
"""


def test_a_server_that_is_killed_fails_no_row(tmp_path):
    started = [
        subprocess.Popen([sys.executable, "-c", SERVER, chat_completion()], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        address = ",".join(process.stdout.readline().strip() for process in started)
        lm = connect("openai/m", api_base=address, cache=False, num_retries=0)
        source, done, victim = write(tmp_path, [row(n) for n in range(60)]), [], random.choice(started)

        def progress():
            done.append(1)
            if len(done) == 20:
                victim.kill()

        with dspy.context(lm=lm), PredictionWriter(tmp_path / "out.jsonl", {"input": ""}, source) as writer:
            predict(program(on_unmet="return"), TASK, source, writer, threads=4, progress=progress)
        assert [answer["id"] for answer in lines(tmp_path / "out.jsonl")] == [f"r{n}" for n in range(60)]
        assert (writer.answered, writer.failed) == (60, 0)
        assert len(lm.pool.away()) == 1
    finally:
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()
