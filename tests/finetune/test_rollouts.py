"""Rollouts that are held to a grammar or corrected: their form, what the loss counts of them, and that they repeat."""

import json
import random
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
import pytest
import trl
from accelerate import Accelerator
from datasets import Dataset
from trl.generation import vllm_client

from finetune import task_setup as setup
from finetune.config import STUDENT, GRPOConfig, SFTConfig
from finetune.evaluation import Evaluation
from finetune.grpo import check_rollouts, train_grpo
from finetune.rewards import Rewards
from finetune.rollout.constrained import ConstrainedRollouts
from finetune.rollout.corrected import CorrectedRollouts
from finetune.rollout.forms import Forms, grammars_of
from finetune.rollout.served import ServedRollouts
from finetune.sft import check_mask, encoder, train_sft
from finetune.student import Student
from finetune.task_setup import RowBuilder, completion_text
from programs.data.dataset import personas
from programs.tasks import TASKS
from programs.tasks.program import r2p
from programs.tasks.retrievers import default_retriever
from r2p_dspy.engines.local.batching import Batcher
from r2p_dspy.engines.local.masks import ConstrainedAnswer
from r2p_dspy.engines.local.rows import Row
from r2p_dspy.engines.local.segment import LocalSegment
from r2p_dspy.errors import ConfigError, RunError
from r2p_dspy.scoring.completions import CompletionReader, load_inputs
from tests.finetune.tiny import TASK, rows, student_program, tiny_student
from tests.r2p_dspy.decoding.grammar.walks import accepts, allows
from tests.scripted import completion
from tests.served import JsonHandler, LocalServer

pytest.importorskip("llguidance")
OPENS_A_THOUGHT = "{{ messages[-1].content }}{{ eos_token }}<think>\n"
SHORT = GRPOConfig(steps=1, prompts=2, generations=2, tokens=160, every=1, constrain=True)


def questions(student, carrier="fields", count=3):
    return Dataset.from_list([{**row, "completion": None} for row in rows(student, count, carrier)])


def rewards(carrier="fields", kind=Rewards):
    return kind({"films": (TASK, student_program(carrier))})


class ByTokens(Rewards):
    """Rewards that differ, for a student that knows nothing."""

    def functions(self, *tasks, end_tokens=()):
        return [lambda completion_ids, **_: [sum(ids) % 7 / 7 for ids in completion_ids]]


@contextmanager
def recorded(kind=ConstrainedRollouts):
    """What each step of a training within is given, with its prompts."""
    given = []
    write = kind.__call__

    def writing(self, prompts, trainer):
        output = write(self, prompts, trainer)
        given.append({**output, "prompts": prompts})
        return output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "__call__", writing)
        yield given


@pytest.fixture
def rollouts():
    with recorded() as given:
        yield given


def train(student, path, config=SHORT, carrier="fields", kind=Rewards, **options):
    return train_grpo(student, questions(student, carrier), rewards(carrier, kind), config, path, **options)


def logged(path):
    return json.loads((path / "state.json").read_text())["log_history"]


def test_dev_answers_of_a_large_student_keep_to_the_form_that_they_have_in_use(tiny, monkeypatch):
    monkeypatch.setattr("finetune.evaluation.is_large", lambda model: True)
    student, asked = Student.load(tiny), questions(tiny)
    programs = {"films": student_program()}
    forms, told = Forms(asked, programs, 160), []
    evaluation = Evaluation(asked, rewards().evaluate, 160, lambda *result: told.append(result[2]), forms)
    scores = evaluation.of(student)(student.model, 0)
    assert scores["structure"] == scores["evidence"] == 1
    assert all(accepts(forms.of(row["prompt"]).grammar("", whole=True), answer) for row, answer in zip(asked, *told))
    free = replace(evaluation, forms=None).of(student)(student.model, 0)
    assert free["structure"] == 0, "it knows nothing of the format"


@pytest.mark.parametrize("opens", [False, True])
def test_sft_leaves_out_what_the_form_forces(tiny, tmp_path, opens):
    carrier = "thinking" if opens else "fields"
    source = tiny_student(tmp_path, OPENS_A_THOUGHT) if opens else tiny
    student, program = Student.load(source, thinking=opens or None), student_program(carrier)
    row = rows(source, 1, carrier)[0]
    if opens:
        reader = CompletionReader(student_program().reason, ())
        outcome = reader(load_inputs(program.reason, row["inputs"]), completion()).details.outcome
        row["completion"] = [{"role": "assistant", "content": completion_text(program, outcome)}]
    form = Forms([row], {"films": program}, None)
    encoded = encoder(student, SFTConfig(mask_forced=True), form)(row)
    whole = student.encode(row)
    start = whole["completion_mask"].index(1)
    ids, counted = (encoded[name][start:] for name in ("input_ids", "completion_mask"))
    assert encoded["input_ids"] == whole["input_ids"] and not any(encoded["completion_mask"][:start])
    chosen = student.tokenizer.decode([token for token, counts in zip(ids, counted, strict=True) if counts])
    assert '"quote": "' in student.tokenizer.decode(ids) and '"quote": "' not in chosen and counted[0] == 0
    assert "a tag for the lighthouse film" in chosen and "romance" in chosen
    assert counted[-1] == 0, "nothing but the end may follow"


def test_sft_counts_an_answer_from_where_it_leaves_its_form(tiny):
    student = Student.load(tiny)
    row = rows(tiny, 1)[0]
    form = Forms([row], {"films": student_program()}, None)
    begun, _, _ = row["completion"][0]["content"].partition("[[ ## preferences ## ]]")
    broken = {**row, "completion": [{"role": "assistant", "content": begun + "romance, I think"}]}
    encoded = encoder(student, SFTConfig(mask_forced=True), form)(broken)
    ids, counted = ([*reversed(encoded[name])] for name in ("input_ids", "completion_mask"))
    assert student.tokenizer.decode(ids[: counted.index(0)][::-1]) == "romance, I think<|end|>"


def test_masked_sft_trains_and_needs_forms(tiny, tmp_path):
    learnt = rows(tiny, 2)
    config = SFTConfig(epochs=1, batch=2, every=1, mask_forced=True)
    with pytest.raises(ConfigError, match="--mask-forced needs answers that have a form"):
        train_sft(tiny, learnt, config, tmp_path / "without")
    forms = Forms(learnt, {"films": student_program()}, None)
    assert train_sft(tiny, learnt, config, tmp_path / "masked", forms=forms).is_dir()
    with pytest.raises(RunError, match="made with mask_forced True, not False"):
        train_sft(tiny, learnt, replace(config, mask_forced=False), tmp_path / "masked", forms=forms, resume=True)


def test_masked_sft_is_refused_before_any_work(tiny, monkeypatch):
    student = Student.load(tiny)
    check_mask(SFTConfig(mask_forced=True), student)
    monkeypatch.setattr("r2p_dspy.engines.local.masks.importlib.util.find_spec", lambda name: None)
    check_mask(SFTConfig(), student)
    with pytest.raises(ConfigError, match="--mask-forced cannot be used with student .*need llguidance"):
        check_mask(SFTConfig(mask_forced=True), student)


class TestAnswers:
    @pytest.fixture(scope="class")
    def step(self, tmp_path_factory):
        """One step on the student that ships: its rollouts, their constraints, and its log."""
        task = TASKS["lamp2"]
        program = setup.student_program(task, r2p(task, default_retriever(task)), "fields")
        build = RowBuilder(program, task, Student.load(STUDENT), SHORT.tokens)
        lamp2 = Dataset.from_list([build(example) for example in personas(task, seed=0, limit=4).test])
        judged = Rewards({task.name: (task, program)})
        path = tmp_path_factory.mktemp("step")
        with recorded() as given:
            train_grpo(STUDENT, lamp2, judged, SHORT, path)
        (rollouts,) = given
        forms = Forms(lamp2, judged.programs, SHORT.tokens)
        return rollouts, [*map(forms.of, rollouts["prompts"])], logged(path)[0]

    def test_each_follows_the_grammar_of_its_prompt(self, step):
        rollouts, forms, log = step
        student = Student.load(STUDENT)
        assert len(rollouts["completion_ids"]) == SHORT.prompts * SHORT.generations
        for form, ids in zip(forms, rollouts["completion_ids"], strict=True):
            assert ids[-1] in student.end_tokens
            assert accepts(form.grammar("", whole=True), student.chat.decode(ids))
        assert log["rewards/structure/mean"] == log["rewards/evidence/mean"] == 1

    def test_loss_leaves_out_what_is_forced_and_nothing_else(self, step):
        rollouts, forms, _ = step
        student = Student.load(STUDENT)
        grammars, size = grammars_of(student), student.model.config.vocab_size
        kinds = set()
        for form, ids, mask in zip(forms, rollouts["completion_ids"], rollouts["env_mask"], strict=True):
            answer = ConstrainedAnswer(grammars, form)
            left = [*zip(ids, mask, strict=True)]
            while True:
                for token in answer.forced():
                    assert left.pop(0) == (token, 0)
                if answer.is_over:
                    break
                bits = np.frombuffer(answer.matcher.compute_bitmask(), np.uint8)
                choices = {*np.flatnonzero(np.unpackbits(bits, bitorder="little")[:size]), *answer.longer}
                token, chosen = left.pop(0)
                assert token in choices and chosen == (len(choices) > 1)
                answer.consume([token])
            assert left == [(student.tokenizer.eos_token_id, 0)]
            kinds |= {*mask}
        assert kinds == {0, 1}

    def test_log_counts_what_was_chosen(self, step):
        rollouts, _, log = step
        lengths, chosen = [[*map(len, rollouts[key])] for key in ("completion_ids", "env_mask")], rollouts["env_mask"]
        assert lengths[0] == lengths[1]
        assert log["completions/mean_length"] == pytest.approx(np.mean([*map(sum, chosen)]))
        assert log["answers/left_out"] == pytest.approx(np.mean([1 - np.mean(mask) for mask in chosen]))

    def test_answers_of_a_group_differ(self, step):
        assert len({*map(tuple, step[0]["completion_ids"])}) > 1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_student(tmp_path_factory.mktemp("tiny"))


def test_cut_answers_have_no_end(tiny, tmp_path, rollouts):
    """A student that knows nothing writes until it is stopped, in the beginning of an answer."""
    train(tiny, tmp_path, replace(SHORT, tokens=24))
    student, forms = Student.load(tiny), Forms(questions(tiny), rewards().programs, 24)
    for prompt, ids in zip(rollouts[0]["prompts"], rollouts[0]["completion_ids"], strict=True):
        assert len(ids) == 23 and ids[-1] not in student.end_tokens
        text = student.chat.decode(ids)
        assert allows(forms.of(prompt).grammar("", whole=True), text) == text
    assert logged(tmp_path)[0]["answers/cut_off"] == 1


@pytest.mark.parametrize("opens", [False, True])
def test_thoughts(tmp_path, rollouts, opens):
    """Whether or not the chat template opens the thought in the prompt, the stages stand in it."""
    template = OPENS_A_THOUGHT if opens else OPENS_A_THOUGHT.removesuffix("<think>\n")
    student = tiny_student(tmp_path / "student", template)
    train(student, tmp_path / "run", replace(SHORT, tokens=48), carrier="thinking")
    text = Student.load(student).chat.decode(rollouts[0]["completion_ids"][0])
    assert text.removeprefix("" if opens else "<think>\n").startswith("<analyse>\n<requirements>\n")


@pytest.mark.parametrize("changes", [{"lora": 4}, {"options": {"top_k": 5, "top_p": 0.9}}, {"temperature": 0.7}])
def test_settings(tiny, tmp_path, rollouts, changes):
    train(tiny, tmp_path, replace(SHORT, tokens=24, **changes))
    assert len(rollouts[0]["completion_ids"]) == 4


@pytest.mark.slow
def test_same_seed_gives_same_rollouts(tiny, tmp_path, rollouts):
    for name, seed in (("first", 0), ("same", 0), ("other", 1)):
        train(tiny, tmp_path / name, replace(SHORT, tokens=24, seed=seed))
    first, same, other = ([*zip(given["completion_ids"], given["env_mask"])] for given in rollouts)
    assert first == same != other


def test_weights_in_training_write_them(tiny, tmp_path, rollouts):
    for name, rate in (("fast", 0.5), ("slow", 1e-9)):
        train(tiny, tmp_path / name, replace(SHORT, steps=3, prompts=1, tokens=24, every=3, rate=rate), kind=ByTokens)
    fast, _, fast_later, slow, _, slow_later = (given["completion_ids"] for given in rollouts)
    assert fast == slow and fast_later != slow_later


@pytest.mark.slow
def test_resumed_training_goes_on_with_the_same_rollouts(tiny, tmp_path, rollouts):
    config = replace(SHORT, steps=4, prompts=1, tokens=24, every=2, rate=0.1)

    def stop(step, steps):
        if step == 3:
            raise KeyboardInterrupt

    train(tiny, tmp_path / "whole", config, kind=ByTokens)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, tmp_path / "stopped", config, kind=ByTokens, on_step=stop)
    train(tiny, tmp_path / "stopped", config, kind=ByTokens, resume=True)
    written = [given["completion_ids"] for given in rollouts]
    assert written[:3] == written[4:7] and written[2] == written[7]
    with pytest.raises(RunError, match="made with constrain True, not False"):
        train(tiny, tmp_path / "stopped", replace(config, constrain=False), kind=ByTokens, resume=True)


def test_checkpoints_of_an_earlier_version(tiny, tmp_path):
    """It did not know of constrained rollouts."""
    config = replace(SHORT, tokens=8, constrain=False)
    train(tiny, tmp_path, config)
    record = tmp_path / "made_by.json"
    known = json.loads(record.read_text())
    del known["constrain"]
    record.write_text(json.dumps(known))
    assert train(tiny, tmp_path, config, resume=True).is_dir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vllm": "colocate"}, "--constrain-rollouts cannot be used with --vllm colocate.*take --vllm server"),
        ({"vllm": "server", "options": {"vllm_structured_outputs_regex": "a"}}, "vllm_structured_outputs_regex cannot"),
        ({"options": {"min_p": 0.1}}, "--grpo min_p cannot be used with --constrain-rollouts"),
        ({"options": {"generation_kwargs": {}}}, "--grpo generation_kwargs cannot be used"),
    ],
)
def test_refused_settings(tiny, changes, message):
    student = Student.load(tiny)
    check_rollouts(replace(SHORT, constrain=False, **changes), student)
    with pytest.raises(ValueError, match=message):
        check_rollouts(replace(SHORT, **changes), student)


def test_refused_student(tmp_path):
    student = tiny_student(tmp_path)
    config = json.loads((student / "config.json").read_text())
    windows = {"use_sliding_window": True, "sliding_window": 16, "layer_types": ["sliding_attention"]}
    (student / "config.json").write_text(json.dumps({**config, **windows}))
    with pytest.raises(ValueError, match="--constrain-rollouts cannot be used with student .*sliding_attention"):
        check_rollouts(SHORT, Student.load(student))
    check_rollouts(replace(SHORT, vllm="server"), Student.load(student))


@pytest.mark.parametrize("options", [{"min_p": 0.1}, {"repetition_penalty": 1.1}])
def test_server_takes_all_settings_of_sampling(tiny, options):
    check_rollouts(replace(SHORT, vllm="server", options=options), Student.load(tiny))


class Writer(JsonHandler):
    """vLLM as TRL's client knows it: it writes any text that a request's grammar allows, token by token."""

    def look_up(self):
        self.send_json({"data": [{"id": "m"}]})

    def answer(self, body):
        self.send_json({"choices": [self.choice(body, seed) for seed in range(body["n"])]})

    def choice(self, body, seed):
        rng, tokens = random.Random(seed), []
        matcher = self.server.grammars.matcher(body["structured_outputs"]["grammar"])
        while len(tokens) < body["max_tokens"] and not matcher.is_stopped():
            bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            tokens.append(int(rng.choice(np.flatnonzero(np.unpackbits(bits, bitorder="little")))))
            matcher.consume_token(tokens[-1])
        if self.server.ignores:
            tokens[0] = self.server.ignores
        if len(tokens) < body["max_tokens"]:
            tokens.append(self.server.end)
        logprobs = {"tokens": [f"token_id:{token}" for token in tokens], "token_logprobs": [-1.0] * len(tokens)}
        logprobs["top_logprobs"] = [{f"token_id:{token}": -1.0} for token in tokens]
        return {"prompt_token_ids": body["prompt"][0], "token_ids": tokens, "logprobs": logprobs}


class TestServer:
    """TRL's own client, on a server that writes what a grammar allows."""

    @pytest.fixture
    def writer(self, tiny):
        student = Student.load(tiny)
        server = LocalServer([], Writer)
        server.grammars, server.end, server.ignores = grammars_of(student), student.tokenizer.eos_token_id, None
        yield server
        server.stop()

    @pytest.fixture
    def write(self, tiny, writer, monkeypatch):
        """A step's rollouts, and their trainer."""
        monkeypatch.setattr(vllm_client, "is_vllm_available", lambda: True)
        client = vllm_client.VLLMClient(writer.api_base.removesuffix("/v1"))
        arguments = trl.GRPOConfig(output_dir="unused", use_cpu=True, max_completion_length=600, temperature=0.7)
        trainer = SimpleNamespace(
            args=arguments, accelerator=Accelerator(), vllm_generation=SimpleNamespace(vllm_client=client)
        )
        rollouts = ServedRollouts(Student.load(tiny), Forms(questions(tiny), rewards().programs, 600))
        return lambda prompts: rollouts(prompts, trainer)

    def test_each_request_brings_the_grammar_of_its_prompt(self, tiny, writer, write):
        first, second, _ = (row["prompt"] for row in questions(tiny))
        output = write([first, first, second, second])
        student, forms = Student.load(tiny), Forms(questions(tiny), rewards().programs, 600)
        bodies = sorted(writer.bodies("/v1/completions"), key=lambda body: body["prompt"][0])
        assert [(body["n"], body["temperature"]) for body in bodies] == [(2, 0.7)] * 2
        prompts = [student.prompt(prompt)[0] for prompt in (first, second)]
        assert output["prompt_ids"] == [prompts[0]] * 2 + [prompts[1]] * 2
        for body in bodies:
            prompt = (first, second)[prompts.index(body["prompt"][0])]
            assert body["structured_outputs"] == {"grammar": forms.of(prompt).grammar("", whole=True).source}

    def test_loss_leaves_out_what_is_forced(self, tiny, write):
        prompt, grammars = questions(tiny)[0]["prompt"], grammars_of(Student.load(tiny))
        output = write([prompt] * 4)
        for ids, mask, logprobs in zip(output["completion_ids"], output["env_mask"], output["logprobs"], strict=True):
            assert len(ids) == len(mask) == len(logprobs)
            start = "[[ ## requirements ## ]]\n"
            told = list(accumulate(len(grammars.text_of([token])) for token in ids))
            assert not any(chosen for chosen, end in zip(mask, told) if end <= len(start))
            assert any(mask)
        assert output["left_out"] == [1 - np.mean(mask) for mask in output["env_mask"]]

    def test_server_that_ignores_the_grammar(self, tiny, writer, write):
        writer.ignores = writer.grammars.vocabulary.texts.index(b"z")
        with pytest.raises(ValueError, match="does not hold answers to the grammar.*guidance"):
            write([questions(tiny)[0]["prompt"]] * 2)


class TestCorrected:
    """On the student that ships, at a temperature at which it leaves the template now and then."""

    @pytest.fixture(scope="class")
    def step(self, tmp_path_factory):
        task = TASKS["lamp2"]
        program = setup.student_program(task, r2p(task, default_retriever(task)), "fields")
        student = Student.load(STUDENT)
        build = RowBuilder(program, task, student, 200)
        lamp2 = Dataset.from_list([build(example) for example in personas(task, seed=0, limit=4).test])
        judged = Rewards({task.name: (task, program)})
        path = tmp_path_factory.mktemp("step")
        config = GRPOConfig(steps=1, prompts=2, generations=4, tokens=200, every=1, correct=True, temperature=1.2)
        with recorded(CorrectedRollouts) as given:
            train_grpo(STUDENT, lamp2, judged, config, path)
        (rollouts,) = given
        return rollouts, student, judged, lamp2, logged(path)[0]

    def test_the_loss_leaves_out_what_the_student_did_not_write(self, step):
        rollouts, student, *_ = step
        corrected = 0
        for ids, counts, shown in zip(*(rollouts[k] for k in ("completion_ids", "env_mask", "shown")), strict=True):
            assert len(ids) == len(counts) <= 200
            whole = student.chat.decode(ids)
            injected = student.chat.decode([token for token, counted in zip(ids, counts) if not counted])
            if 0 in counts[:-1]:  # the last may be an end that nobody wrote
                corrected += 1
                assert whole != shown and len(injected) > 10
            else:
                assert whole == shown
        assert corrected, "at this temperature some answers are corrected"

    def test_rewards_read_the_answer_without_notes(self, step):
        rollouts, _, judged, rows, log = step
        facts = {json.dumps(row["prompt"]): row for row in rows}
        parts = []
        for prompt, shown in zip(rollouts["prompts"], rollouts["shown"], strict=True):
            row = facts[json.dumps(prompt)]
            parts.append(judged.score(row["task"], row["inputs"], row["gold"], shown)[1].parts["structure"])
        assert log["rewards/structure/mean"] == pytest.approx(np.mean(parts), abs=1e-4)
        left_out = [1 - np.mean(counts) for counts in rollouts["env_mask"]]
        assert log["answers/left_out"] == pytest.approx(np.mean(left_out))

    def test_what_was_kept_and_noted_is_told_apart_after_two_corrections(self, step):
        """The tokens of a segment that resumes twice."""
        _, student, *_ = step
        batch = Batcher(student.model, student.end_tokens)
        try:
            prompt = student.prompt([{"role": "user", "content": "hello"}])[0]
            first = LocalSegment(batch, Row(prompt, 40, 1.0, seed=3), student.chat)
            first.stop()
            second = first.resume(0, " Wait.", "[[ ## requirements ## ]]\n")
            second.stop()
            third = second.resume(len("[[ ## requirements ## ]]\n"), " No.", "a tag")
            third.stop()
            tokens = third.tokens()
        finally:
            batch.close()
        told = student.chat.decode([token for token, own in tokens if not own])
        assert "".join(told.split()) == "Wait.[[##requirements##]]No.atag"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(SHORT, correct=True), "leave one of them out"),
        (replace(SHORT, constrain=False, correct=True, vllm="server"), "corrected in this process"),
        (replace(SHORT, constrain=False, correct=True, options={"min_p": 0.1}), "--correct-rollouts; leave one"),
    ],
)
def test_corrected_rollouts_are_refused_where_they_cannot_be_written(tiny, config, message):
    with pytest.raises(ConfigError, match=message):
        check_rollouts(config, Student.load(tiny))
