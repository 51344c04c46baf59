"""Both trainings on a tiny student: what is learnt, what is kept, and what is refused."""

import json
import shutil
from itertools import count
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import get_peft_model

from finetune.config import GRPOConfig, SFTConfig, learning_rate, read_options
from finetune.evaluation import Evaluation, generate_answers
from finetune.grpo import check_options, check_vllm, train_grpo
from finetune.rewards import RewardError, Rewards
from finetune.sft import train_sft
from finetune.student import Student
from finetune.training import lora_adapter
from r2p_dspy import Assert
from r2p_dspy.errors import RunError
from tests.film import program
from tests.finetune.tiny import TASK, rows, student_program, tiny_student

QUICK = SFTConfig(epochs=1, batch=2, every=1)
TRIES = GRPOConfig(steps=2, prompts=1, generations=2, tokens=8, every=1)
TEMPLATES = Path(pytest.importorskip("trl").__file__).parent / "chat_templates"


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return tiny_student(tmp_path_factory.mktemp("student"))


def rewards(**options):
    return Rewards({"films": (TASK, program(max_backtracks=0, max_interventions=0, **options))})


def questions(student, count=4):
    return Dataset.from_list([{**row, "completion": None} for row in rows(student, count)]).remove_columns("completion")


def weights(directory):
    return Student.load(directory).model.state_dict()


def logged(directory, *more):
    """What was logged of each step: the losses, and the scores on dev."""
    log = json.loads((directory / "state.json").read_text())["log_history"]
    return {key: [(e["step"], e[key]) for e in log if key in e] for key in ("loss", "reward", "eval_score", *more)}


def test_sft_learns_completions_only(student, tmp_path):
    known = Student.load(student)
    row = rows(student, 1)[0]
    encoded = known.encode(row)
    learnt = [token for token, learns in zip(encoded["input_ids"], encoded["completion_mask"]) if learns]
    assert known.tokenizer.decode(learnt) == row["completion"][0]["content"] + known.tokenizer.eos_token
    steps = []
    trained = train_sft(student, rows(student, 4), QUICK, tmp_path, on_step=lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)] and trained == tmp_path / "model"
    before, after = weights(student), weights(trained)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_large_student_learns_the_same_row_by_row(student, tmp_path, monkeypatch):
    """On a CPU, where a batch of long rows is padded to the longest and took 20 GB."""
    uneven = rows(student, 4)
    uneven[1]["completion"][0]["content"] += " and so on" * 20
    train_sft(student, uneven, QUICK, tmp_path / "batch")
    monkeypatch.setattr("finetune.training.is_large", lambda model: True)
    train_sft(student, uneven, QUICK, tmp_path / "rows")
    together, apart = (dict(logged(tmp_path / name)["loss"]) for name in ("batch", "rows"))
    assert apart == pytest.approx(together, rel=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU transformers generates")
def test_a_large_student_is_evaluated_as_it_is_served(student, monkeypatch):
    known = Student.load(student)
    prompts = [known.prompt(row["prompt"]) for row in rows(student, 3)]
    generated = generate_answers(known.model, known, prompts, 12)
    monkeypatch.setattr("finetune.evaluation.is_large", lambda model: True)
    assert generate_answers(known.model, known, prompts, 12) == generated
    adapted = get_peft_model(known.model, lora_adapter(4))
    assert generate_answers(adapted, known, prompts, 12) == generated
    assert hasattr(adapted, "merge_and_unload"), "the model in training is not changed"


def test_stored_dtype_is_kept(student, tmp_path):
    small = tmp_path / "small"
    shutil.copytree(student, small)
    Student.load(student).model.to(torch.bfloat16).save_pretrained(small)
    trained = train_sft(small, rows(student, 2), QUICK, tmp_path / "run")
    assert Student.load(trained).stored == "bfloat16"


def test_lora_saves_adapter_and_merged_model(student, tmp_path):
    trained = train_sft(student, rows(student, 2), SFTConfig(epochs=1, batch=2, lora=4), tmp_path)
    assert (trained / "adapter" / "adapter_config.json").exists()
    assert Student.load(trained).size == Student.load(student).size


@pytest.mark.parametrize("template", ["qwen3", "deepseek_r1_distill"])
def test_templates_keep_thoughts(student, tmp_path, template):
    """DeepSeek's opens the thought in the prompt, and cuts thoughts out of an assistant's turn."""
    thinker = tiny_student(tmp_path, (TEMPLATES / f"{template}.jinja").read_text())
    known = Student.load(thinker, thinking=True)
    answer = "<think>\nit rains\n</think>\n\nromance"
    row = {"prompt": [{"role": "user", "content": "Which?"}], "completion": [{"role": "assistant", "content": answer}]}
    text = known.tokenizer.decode(known.encode(row)["input_ids"])
    assert known.can_think and text.count("<think>") == 1
    assert text.endswith("<think>\nit rains\n</think>\n\nromance" + known.tokenizer.eos_token)
    assert known.prompt(row["prompt"])[1] is (template == "deepseek_r1_distill")


def test_best_on_dev_and_early_stop(student, tmp_path):
    scores = iter([0.1, 0.9, 0.5, 0.4, 0.3, 0.2])
    evaluation = Evaluation(rows(student, 1), lambda rows, texts: {"score": next(scores)}, tokens=2)
    how = SFTConfig(epochs=3, batch=2, every=1, patience=2)
    trained = train_sft(student, rows(student, 4), how, tmp_path, evaluation=evaluation)
    assert logged(tmp_path)["eval_score"] == [(0, 0.1), (1, 0.9), (2, 0.5), (3, 0.4)]
    best = json.loads((tmp_path / "state.json").read_text())["best_model_checkpoint"]
    assert Path(best).name == "checkpoint-1"
    kept, first = weights(trained), weights(best)
    assert all(torch.equal(kept[name], first[name]) for name in kept)


class FirstTokens(Rewards):
    """Rewards answers by their first token, so that an untrained student's differ too."""

    def functions(self, *tasks, end_tokens=()):
        def reward(completion_ids, **_):
            return [float(ids[0] % 7) for ids in completion_ids]

        return [reward]


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU rows share a pass")
def test_grpo_of_a_large_student_learns_the_same_row_by_row(student, tmp_path, monkeypatch):
    how = GRPOConfig(steps=2, prompts=2, generations=3, tokens=8, rate=1e-3, options={"warmup_steps": 0})
    scores = count()  # the last weights are the best
    evaluation = Evaluation(questions(student, 1), lambda rows, texts: {"score": float(next(scores))}, tokens=4)
    given = FirstTokens({"films": (TASK, student_program())})
    train_grpo(student, questions(student), given, how, tmp_path / "batch", evaluation=evaluation)
    monkeypatch.setattr("finetune.training.is_large", lambda model: True)
    train_grpo(student, questions(student), given, how, tmp_path / "rows", evaluation=evaluation)
    together, apart = (logged(tmp_path / name, "grad_norm")["grad_norm"] for name in ("batch", "rows"))
    assert len(together) == 2 and all(norm > 0 for _, norm in together)
    assert dict(apart) == pytest.approx(dict(together), rel=1e-2)


def test_grpo_logs_every_part(student, tmp_path):
    trained = train_grpo(student, questions(student), rewards(), TRIES, tmp_path)
    log = json.loads((tmp_path / "state.json").read_text())["log_history"]
    named = {name for entry in log for name in entry}
    assert {f"rewards/{part}/mean" for part in ("composite", "task", "structure", "evidence")} <= named
    assert {"frac_reward_zero_std", "answers/cut_off"} <= named
    assert Student.load(trained).size == Student.load(student).size


def test_grpo_mixes_tasks(student, tmp_path):
    both = Rewards({name: (TASK, student_program()) for name in ("films", "books")})
    mixed = questions(student, 2)
    mixed = mixed.map(lambda row, at: {"task": ("films", "books")[at]}, with_indices=True)
    train_grpo(student, mixed, both, TRIES, tmp_path)
    named = {name for entry in json.loads((tmp_path / "state.json").read_text())["log_history"] for name in entry}
    assert {"rewards/films/mean", "rewards/books/mean"} <= named


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_resumed_training_equals_whole(student, tmp_path, method):
    def train(path, resume=False, stop=None):
        def on_step(step, steps):
            if step == stop:
                raise KeyboardInterrupt

        evaluation = Evaluation(questions(student, 1), lambda rows, texts: {"score": float(len(texts[0]))}, tokens=4)
        common = {"resume": resume, "on_step": on_step, "evaluation": evaluation}
        if method == "sft":
            how = SFTConfig(epochs=2, batch=1, every=2, rate=1e-2)
            return train_sft(student, rows(student, 3), how, path, **common)
        how = GRPOConfig(steps=6, prompts=1, generations=2, tokens=8, every=2, rate=1e-2)
        return train_grpo(student, questions(student, 3), rewards(), how, path, **common)

    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stop=5)
    for name in ("checkpoint-5", "checkpoint-6"):  # killed while it wrote these
        (tmp_path / "stopped" / "checkpoints" / name).mkdir()
    (tmp_path / "stopped" / "checkpoints" / "checkpoint-5" / "trainer_state.json").touch()
    trained = train(tmp_path / "stopped", resume=True)
    assert logged(tmp_path / "stopped") == logged(tmp_path / "whole")
    resumed, whole = weights(trained), weights(tmp_path / "whole" / "model")
    assert all(torch.equal(resumed[name], whole[name]) for name in resumed)


def test_patience_lasts_over_a_kill(student, tmp_path):
    def train(path, resume=False, stop=None):
        def on_step(step, steps):
            if step == stop:
                raise KeyboardInterrupt

        evaluation = Evaluation(questions(student, 1), lambda rows, texts: {"score": 0.5}, tokens=4)
        how = SFTConfig(epochs=10, batch=1, every=1, patience=3)
        return train_sft(student, rows(student, 1), how, path, resume=resume, on_step=on_step, evaluation=evaluation)

    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stop=4)
    train(tmp_path / "stopped", resume=True)
    steps = [step for step, _ in logged(tmp_path / "whole")["eval_score"]]
    assert steps == [0, 1, 2, 3, 4]  # the first is kept, and three do not better it
    assert [step for step, _ in logged(tmp_path / "stopped")["eval_score"]] == steps


def test_kill_after_the_last_step(student, tmp_path, monkeypatch):
    """The model is written last: where it is, a training has all that the report needs."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Student, "save", killed)
        train_sft(student, rows(student, 2), QUICK, tmp_path / "run")
    assert (tmp_path / "run" / "state.json").exists()
    before = logged(tmp_path / "run")
    assert train_sft(student, rows(student, 2), QUICK, tmp_path / "run", resume=True).is_dir()
    assert logged(tmp_path / "run") == before


def test_checkpoints_of_other_training_are_refused(student, tmp_path):
    train_sft(student, rows(student, 2), QUICK, tmp_path / "run")
    with pytest.raises(RunError, match="holds checkpoints; continue with --resume"):
        train_sft(student, rows(student, 2), QUICK, tmp_path / "run")
    assert train_sft(student, rows(student, 2), QUICK, tmp_path / "run", resume=True)  # it is finished
    other = tiny_student(tmp_path / "other", layers=2)
    with pytest.raises(RunError, match="made with student '.*', not '.*'"):
        train_sft(other, rows(student, 2), QUICK, tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="made with rows"):
        train_sft(student, rows(student, 3), QUICK, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": ""}, "has no chat template"),
        ({"context": 64}, r"context of 64 tokens, and the longest prompt takes \d+, an answer up to \d+: lower --k"),
    ],
)
def test_untrainable_student(student, tmp_path, options, message):
    unfit = tiny_student(tmp_path / "unfit", **options)
    for train in (
        lambda path: train_sft(unfit, rows(student, 2), QUICK, path),
        lambda path: train_grpo(unfit, questions(student), rewards(), TRIES, path),
    ):
        with pytest.raises(ValueError, match=message):
            train(tmp_path / "run")
        shutil.rmtree(tmp_path / "run", ignore_errors=True)


def test_no_rows(student, tmp_path):
    with pytest.raises(ValueError, match="no rows to train on"):
        train_sft(student, [], QUICK, tmp_path)


def test_nan_loss_keeps_weights(student, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(student, broken)
    model = Student.load(student).model
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(broken)
    with pytest.raises(ValueError, match="loss of step 1 is not a number.*lower --learning-rate"):
        train_sft(broken, rows(student, 2), QUICK, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_failing_reward_keeps_checkpoints(student, tmp_path):
    calls = []

    def failing(inputs, outcome):
        calls.append(outcome)
        if len(calls) > 10:  # in the second step
            raise ZeroDivisionError("no votes")
        return True

    with pytest.raises(RewardError, match="'failing' failed with ZeroDivisionError: no votes"):
        # Texts that cannot be read are not shown to checks, so this one is taken for a reader.
        broken = rewards()
        broken._cached = lambda *row: Rewards({"films": (TASK, program(checks=[Assert(failing)]))})._score(
            row[0], row[1], row[2], rows(student, 1)[0]["completion"][0]["content"]
        )
        train_grpo(student, questions(student), broken, TRIES, tmp_path)
    assert (tmp_path / "checkpoints" / "checkpoint-1" / "trainer_state.json").exists()


def test_out_of_memory_advice(student, tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setattr("trl.SFTTrainer.compute_loss", full)
    with pytest.raises(ValueError, match=r"^out of memory \(CUDA out of memory.*GiB.\): lower --batch, use --lora"):
        train_sft(student, rows(student, 2), QUICK, tmp_path)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["beta=0.04"], {"beta": 0.04}),
        (["loss_type=dr_grpo", "scale_rewards=false"], {"loss_type": "dr_grpo", "scale_rewards": False}),
        (['generation_kwargs={"top_k": 5}'], {"generation_kwargs": {"top_k": 5}}),
        (["a=b=c"], {"a": "b=c"}),
        ([], {}),
    ],
)
def test_read_grpo_options(given, read):
    assert read_options(given) == read


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: read_options(["beta"]), "KEY=VALUE"),
        (lambda: read_options(["=3"]), "KEY=VALUE"),
        (lambda: check_options({"bta": 1}), "did you mean 'beta'"),
        (lambda: check_options({"output_dir": "x"}), "set by finetune itself"),
        (lambda: check_vllm("offline"), "the modes are colocate, server"),
    ],
)
def test_bad_grpo_options(refuse, message):
    with pytest.raises(ValueError, match=message):
        refuse()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_vllm_without_gpu(student, tmp_path):
    with pytest.raises(ValueError, match="--vllm colocate needs a GPU, and none is here"):
        train_grpo(student, questions(student), rewards(), GRPOConfig(vllm="colocate"), tmp_path)


def test_trl_options_and_refusals(student, tmp_path):
    def train(path, **options):
        config = GRPOConfig(1, 1, 2, 4, options=options)
        train_grpo(student, questions(student), rewards(), config, path)

    train(tmp_path / "kl", beta=0.1)
    log = json.loads((tmp_path / "kl" / "state.json").read_text())["log_history"]
    assert "kl" in {name for entry in log for name in entry}
    with pytest.raises(ValueError, match="TRL refuses"):
        train(tmp_path / "no", steps_per_generation=3, generation_batch_size=4)


def test_learning_rate_by_size():
    small, large = 3_000_000, 8_000_000_000
    assert learning_rate(SFTConfig(), small) == 1e-3 and learning_rate(SFTConfig(), large) == 1e-5
    assert learning_rate(GRPOConfig(lora=16), large) == pytest.approx(1e-5)
    assert learning_rate(GRPOConfig(rate=3e-4), 1) == 3e-4
