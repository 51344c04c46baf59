"""DSPy trains models of this process: rows as the calls they stand for, jobs, and DSPy's own optimizers."""

import itertools
import json
import shutil
from concurrent.futures import CancelledError, Future

import dspy
import pytest
import torch
from click.testing import CliRunner
from dspy.clients.utils_finetune import TrainDataFormat, TrainingStatus
from dspy.teleprompt import BetterTogether, BootstrapFewShot, BootstrapFinetune
from dspy.teleprompt.bootstrap_trace import FailedPrediction
from dspy.teleprompt.grpo import GRPO

from cli import cli
from finetune.dspy_provider.provider import trainable
from finetune.dspy_provider.rollouts import Rollouts
from finetune.dspy_provider.rows import is_cut_off, normalize_exported_row
from programs.data import dataset as data
from programs.tasks.program import r2p
from programs.tasks.task_file import task_of
from r2p_dspy import connect, optimizing
from r2p_dspy.prompting.tags import render
from r2p_dspy.template import TEMPLATE
from tests.film import FILM, HISTORY, Film, ask, program
from tests.finetune.tiny import tiny_student
from tests.scripted import STAGES, completion, opening, written

TASK = task_of("lamp2")
THOUGHT = render(TEMPLATE, STAGES)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two threads on a busy machine wait for each other at every small product."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random model with a context of 1500."""
    return tiny_student(tmp_path_factory.mktemp("models") / "tiny", context=1500)


def lm_of(model, directory, **options):
    return trainable(connect(str(model), **{"max_tokens": 8, **options}), directory)


def row(answer="[[ ## tag ## ]]\nromance\n\n[[ ## completed ## ]]\n", question=FILM):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def group(*rewards, answers="abcdefgh", question=FILM):
    messages = [{"role": "user", "content": question}]
    rows = zip(rewards, answers, strict=False)
    return [{"messages": messages, "completion": {"role": "assistant", "content": a}, "reward": r} for r, a in rows]


def step(job, *groups):
    batches = job.get_status()["pending_batch_ids"]
    given = [
        {"batch_id": batch, "group": answers} for batch, answers in zip(batches, itertools.cycle(groups), strict=False)
    ]
    job.step(train_data=given, train_data_format=TrainDataFormat.GRPO_CHAT)


def logged(job):
    return [json.loads(line) for line in (job.directory / "steps.jsonl").read_text().splitlines()]


class TestRows:
    """What is trained on is what the model is asked and answers when the program runs."""

    @pytest.fixture(params=[dspy.ChatAdapter(), dspy.XMLAdapter()], ids=["chat", "xml"], autouse=True)
    def adapter(self, request):
        with dspy.context(adapter=request.param):
            yield request.param

    def exported(self, module, scripted, text, thinks, demos=()):
        """A call's row as DSPy exports it, and the call itself."""
        engine = scripted(text, supports_reasoning=thinks)
        predictor = module.predictors()[0]
        predictor.demos = list(demos)
        with dspy.context(trace=[]):
            ask(module)
            ((_, inputs, outputs),) = dspy.settings.trace
        called = predictor.signature
        exported = dspy.settings.adapter.format_finetune_data(called, predictor.demos, inputs, outputs)["messages"]
        request = engine.requests[-1]
        prompt = [{"role": message.role, "content": message.text} for message in request.messages]
        return exported, [{"role": "system", "content": request.system}, *prompt] if request.system else prompt

    def texts(self, messages):
        return [message["content"] for message in messages]

    def test_thinking_carrier(self, scripted):
        answer = written(tag="romance")
        exported, prompt = self.exported(program(carrier="thinking"), scripted, (THOUGHT, answer), True)
        assert opening("reasoning") in exported[-1]["content"] and "<think>" not in exported[-1]["content"]
        call = normalize_exported_row(exported[:-1], exported[-1]["content"], thinks=True)
        assert self.texts(call.prompt) == self.texts(prompt)
        assert call.completion == f"<think>\n{THOUGHT}\n</think>\n\n{answer}" and call.thinks

    def test_thinking_carrier_drops_demos(self, scripted):
        demo = dspy.Example(film="x", profile=HISTORY, reasoning=THOUGHT, tag="fantasy")
        answer = written(tag="romance")
        exported, prompt = self.exported(program(carrier="thinking"), scripted, (THOUGHT, answer), True, [demo])
        assert len(exported) == 5
        assert self.texts(
            normalize_exported_row(exported[:-1], exported[-1]["content"], thinks=True).prompt
        ) == self.texts(prompt)

    def test_model_without_thinking(self, scripted):
        answer = dspy.settings.adapter.format_assistant_message_content(
            program(carrier="thinking").reason.signature, {"reasoning": THOUGHT, "tag": "romance"}
        ).rstrip()
        exported, prompt = self.exported(program(carrier="thinking"), scripted, answer, False)
        call = normalize_exported_row(exported[:-1], exported[-1]["content"], thinks=False)
        assert self.texts(call.prompt) == self.texts(prompt)
        assert call.completion == answer and not call.thinks

    def test_fields_carrier(self, scripted):
        exported, prompt = self.exported(program(), scripted, completion(), True)
        call = normalize_exported_row(exported[:-1], exported[-1]["content"], thinks=True)
        assert call.prompt == exported[:-1] and self.texts(call.prompt) == self.texts(prompt)
        assert call.completion == exported[-1]["content"].rstrip()

    def test_dspy_chain_of_thought(self):
        class Said(dspy.Signature):
            """Say it."""

            question: str = dspy.InputField()
            reasoning: dspy.Reasoning = dspy.OutputField(desc="in two\n1. `lines`")
            answer: str = dspy.OutputField()
            note: str = dspy.OutputField()

        demo = {"question": "p", "reasoning": "Hm.", "answer": "b", "note": "m"}
        outputs = {"reasoning": "So [[ ## answer ## ]] it is.", "answer": "a", "note": "n"}
        adapter = dspy.ChatAdapter()
        exported = adapter.format_finetune_data(Said, [demo], {"question": "q"}, outputs)["messages"]
        call = normalize_exported_row(exported[:-1], exported[-1]["content"], thinks=True)
        without = Said.delete("reasoning")
        assert call.prompt == adapter.format(without, [demo], {"question": "q"})
        text = adapter.format_assistant_message_content(without, outputs).rstrip()
        assert call.completion == f"<think>\nSo [[ ## answer ## ]] it is.\n</think>\n\n{text}"

    def test_unreadable_answer_is_kept(self, scripted):
        answer = written(tag="romance")
        exported, prompt = self.exported(program(carrier="thinking"), scripted, (THOUGHT, answer), True)
        call = normalize_exported_row(exported[:-1], "[[ ## tg ## ]] mad", thinks=True)
        assert self.texts(call.prompt) == self.texts(prompt)
        assert call.completion == "[[ ## tg ## ]] mad" and not call.thinks

    def test_cut_off_answers(self, adapter):
        prompt = adapter.format(Film, [], {"film": FILM, "profile": HISTORY})
        whole = written(tag="romance")
        assert not is_cut_off(prompt, whole) and is_cut_off(prompt, whole[:-4])


class TestFinetuning:
    def test_job_life_cycle(self, tiny, tmp_path):
        lm = lm_of(f"hf:{tiny}", tmp_path)
        assert lm.provider.training.acquire()  # another training runs
        job = lm.finetune([row()] * 4, TrainDataFormat.CHAT, {"epochs": 20, "batch": 2, "rate": 0.03})
        assert job.status() == TrainingStatus.pending and not job.done()
        lm.provider.training.release()
        trained = job.result(timeout=120)
        assert job.status() == TrainingStatus.succeeded and job.steps == 40
        assert lm.provider.jobs == [job]
        assert trained.model != lm.model and trained.engine.fingerprint != lm.engine.fingerprint
        assert trained.finetuning_model == f"hf:{tmp_path / 'sft-1' / 'model'}"
        assert trained(FILM)[0].startswith("[[ ## tag ## ]]\nromance") and "romance" not in lm(FILM)[0]
        assert lm.model == connect(f"hf:{tiny}").model  # what was given is as it was
        again = trained.finetune([row()] * 2, TrainDataFormat.CHAT, {"epochs": 1}).result(timeout=120)
        assert again.finetuning_model == f"hf:{tmp_path / 'sft-2' / 'model'}"

    def test_cancelled_between_steps(self, tiny, tmp_path):
        lm = lm_of(f"hf:{tiny}", tmp_path)
        job = lm.finetune([row()] * 4, TrainDataFormat.CHAT, {"epochs": 1e5, "batch": 4})
        while not job.steps:
            job.thread.join(0.05)
        assert job.status() == TrainingStatus.running
        assert job.cancel()
        with pytest.raises(CancelledError):
            job.result(timeout=60)
        assert job.status() == TrainingStatus.cancelled and not job.cancel()
        assert lm.provider.training.acquire(timeout=10)  # the next one may run

    def test_interrupting_the_wait_cancels(self, tiny, tmp_path, monkeypatch):
        job = lm_of(f"hf:{tiny}", tmp_path).finetune([row()] * 4, TrainDataFormat.CHAT, {"epochs": 1e5, "batch": 4})
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Future, "result", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            job.result()
        with pytest.raises(CancelledError):
            job.result(timeout=60)

    def test_cancelled_while_waiting(self, tiny, tmp_path):
        lm = lm_of(f"hf:{tiny}", tmp_path)
        with lm.provider.training:
            job = lm.finetune([row()], TrainDataFormat.CHAT)
            job.cancel()
            with pytest.raises(CancelledError):
                job.result(timeout=10)
        assert not job.begun and not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "rows, form, options, message",
        [
            ([], TrainDataFormat.CHAT, {}, "no run of the program passed"),
            ([row()], TrainDataFormat.COMPLETION, {}, "needs rows in the format chat"),
            ([row()], TrainDataFormat.CHAT, {"num_train_epochs": 1}, "there is no num_train_epochs; there are epochs"),
            ([{"text": "x"}], TrainDataFormat.CHAT, {}, "a training row is"),
            ([row(question="a film " * 1500)], TrainDataFormat.CHAT, {}, "has a context of 1500 tokens"),
            ([row()] * 4, TrainDataFormat.CHAT, {"rate": 1e38, "epochs": 9, "batch": 2, "warmup": 0}, "not a number"),
        ],
    )
    def test_errors(self, tiny, tmp_path, rows, form, options, message):
        job = lm_of(f"hf:{tiny}", tmp_path).finetune(rows, form, options)
        error = job.result(timeout=120)
        assert isinstance(error, ValueError) and message in str(error) and "\n" not in str(error)
        assert job.status() == TrainingStatus.failed


class TestReinforcing:
    def job(self, model, directory, **options):
        return lm_of(model, directory, temperature=1.0).reinforce({"learning_rate": 0.01, **options})

    def test_steps_change_the_lm(self, tiny, tmp_path):
        job = self.job(f"hf:{tiny}", tmp_path)
        names, status = [job.lm.model], job.get_status()
        assert status["status"] == job.status() == TrainingStatus.pending and len(status["pending_batch_ids"]) > 8
        for _ in range(2):
            step(job, group(0, 1, 0, 1), group(1, 0, 0, 0))
            names.append(job.lm.model)
            assert not set(job.get_status()["pending_batch_ids"]) & set(status["pending_batch_ids"])
        assert len({*names}) == 3 and job.status() == TrainingStatus.running
        assert [entry["groups"] for entry in logged(job)] == [2, 2]  # each once, however often DSPy repeats them
        job.save_checkpoint("best")
        job.terminate()
        assert job.status() == TrainingStatus.succeeded
        assert connect(f"hf:{job.checkpoints['best']}").engine.fingerprint in job.lm.model
        assert [path.name for path in job.directory.glob("step-*")] == ["step-2"]
        assert job.lm("Hello", max_tokens=2)

    def test_rewarded_answer_gets_likelier(self, tiny, tmp_path):
        job = self.job(f"hf:{tiny}", tmp_path)

        def score(answer):
            student, ids = job.policy.student, job._rollout(group(0, answers=[answer])[0])
            tokens = torch.tensor([[*ids.prompt, *ids.completion]])
            with torch.no_grad():
                log_probabilities = job.policy.trainer.model.eval()(tokens).logits.log_softmax(-1)[0, :-1]
            assert student.context == 1500
            return log_probabilities.gather(1, tokens[0, 1:, None])[len(ids.prompt) - 1 :].sum()

        before = score("romance"), score("fantasy")
        for _ in range(3):
            step(job, group(1, 0, answers=["romance", "fantasy"]))
        assert score("romance") > before[0] and score("fantasy") < before[1]

    def test_optimizer_state_is_kept(self, tiny, tmp_path):
        job = self.job(f"hf:{tiny}", tmp_path)
        for _ in range(3):
            step(job, group(1, 0))
        states = job.policy.trainer.optimizer.state.values()
        assert {int(state["step"]) for state in states} == {3}

    def test_group_in_parts_is_one_step(self, tiny, tmp_path):
        whole, parts = (
            self.job(f"hf:{tiny}", tmp_path / "a"),
            self.job(f"hf:{tiny}", tmp_path / "b", per_device_train_batch_size=2),
        )
        for job in (whole, parts):
            step(job, group(1, 0, 0, 1), group(0, 0, 1, 0))
        together, in_parts = logged(whole)[0], logged(parts)[0]
        assert together["grad_norm"] == pytest.approx(in_parts["grad_norm"], rel=0.05)

    def test_equal_rewards_change_nothing(self, tiny, tmp_path):
        job = self.job(f"hf:{tiny}", tmp_path)
        before = job.lm.model
        step(job, group(1, 1, 1))
        assert job.lm.engine.fingerprint in job.lm.model and logged(job)[0]["frac_reward_zero_std"] == 1
        assert logged(job)[0]["grad_norm"] == 0 and before.startswith("local/tiny")

    @pytest.mark.parametrize("options", [{"lora": 4}, {"beta": 0.1}, {"loss_type": "dr_grpo", "scale_rewards": "none"}])
    def test_variants(self, tiny, tmp_path, options):
        job = self.job(f"hf:{tiny}", tmp_path, **options)
        names = [job.lm.model]
        for _ in range(2):
            step(job, group(1, 0))
            names.append(job.lm.model)
        assert len({*names}) == 3
        assert (job.current / "adapter").is_dir() == ("lora" in options)
        assert ("kl" in logged(job)[0]) == ("beta" in options)

    def test_cancelled(self, tiny, tmp_path):
        job = self.job(f"hf:{tiny}", tmp_path)
        assert job.cancel()
        with pytest.raises(CancelledError):
            job.get_status()  # where DSPy's loop looks first
        assert job.status() == TrainingStatus.cancelled and job.lm.rollouts is None
        with pytest.raises(CancelledError):
            job.step(train_data=[{"batch_id": 0, "group": group(1, 0)}])
        assert not job.cancel()

    @pytest.mark.parametrize(
        "groups, message",
        [
            ([group(1, float("nan"))], "not a finite number"),
            ([group(1, 0), group(1, 0, 1)], "of one size"),
            ([group(1, 0, question="a film " * 1500)], "context of 1500"),
            ([[]], "no answers"),
        ],
    )
    def test_errors_keep_the_lm(self, tiny, tmp_path, groups, message):
        job = self.job(f"hf:{tiny}", tmp_path)
        before = job.lm.model
        with pytest.raises(ValueError, match=message):
            step(job, *groups)
        assert job.lm.model == before and job.status() == TrainingStatus.failed and job.lm.rollouts is None

    def test_nan_loss(self, tiny, tmp_path):
        job = self.job(f"hf:{tiny}", tmp_path)
        with torch.no_grad():
            next(job.policy.trainer.model.parameters()).fill_(float("nan"))
        with pytest.raises(ValueError, match="not a number"):
            step(job, group(1, 0))

    @pytest.mark.parametrize(
        "connected, options, message",
        [
            ({"temperature": 0.0}, {}, "at temperature 0 all answers"),
            ({"temperature": 1.0}, {"num_generations": 1}, "at least 2"),
            ({"temperature": 1.0}, {"learning_speed": 1}, "learning_speed"),
            ({"temperature": 1.0}, {"use_vllm": True}, "the LM's own engine"),
        ],
    )
    def test_bad_options(self, tiny, tmp_path, connected, options, message):
        with pytest.raises(ValueError, match=message):
            lm_of(f"hf:{tiny}", tmp_path, **connected).reinforce(options)

    def test_every_call_is_another_sample(self, tiny, tmp_path):
        lm = lm_of(f"hf:{tiny}", tmp_path, temperature=1.0, cache=False)
        assert len({str(lm("Hello")) for _ in range(4)}) == 1
        job = lm.reinforce({})
        assert len({str(lm("Hello")) for _ in range(4)}) > 1
        job.terminate()
        assert len({str(lm("Hello")) for _ in range(4)}) == 1

    def test_unwanted_xml(self, tiny, tmp_path):
        class Asked(dspy.Signature):
            question: str = dspy.InputField()
            answer: str = dspy.OutputField()

        messages = dspy.XMLAdapter().format(Asked, [], {"question": "q"})
        rows = [answer | {"messages": messages} for answer in group(1, 0)]
        with pytest.raises(ValueError, match="adapter=dspy.ChatAdapter"):
            step(self.job(f"hf:{tiny}", tmp_path), rows)


class TestRollouts:
    def rolled(self, scripted, *answers, **options):
        engine = scripted(*answers, supports_reasoning=True)
        with dspy.context(trace=[]):
            prediction = ask(Rollouts(program(**options)))
            return prediction, dspy.settings.trace, engine

    def test_unreadable_answer_leaves_text(self, scripted):
        prediction, trace, engine = self.rolled(scripted, "I do not know", candidates=3)
        ((predictor, inputs, failed),) = trace
        assert isinstance(failed, FailedPrediction) and failed.completion_text == "I do not know"
        prompt = dspy.ChatAdapter().format(predictor.signature, [], inputs)
        assert prompt[-1]["content"] == engine.requests[0].messages[-1].text
        assert len(engine.requests) == 1 and prediction.tag is None and not prediction.attempts[0].asserted

    def test_no_corrections(self, scripted):
        bad = completion(evidence='[{"item": "9", "quote": "nowhere"}]')
        prediction, trace, engine = self.rolled(scripted, bad, completion())
        assert (
            len(engine.requests) == len(trace) == 1
            and prediction.reasoning.evidence[0].item == "9"
            and prediction.violations
        )

    def test_without_a_trace(self, scripted):
        scripted("nothing")
        assert ask(Rollouts(program())).tag is None


def test_served_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is served; to train one, connect to pocket"):
        trainable(connect("hosted_vllm/Qwen3-4B", api_base="http://localhost:1/v1"), tmp_path)


def test_no_chat_template(tiny, tmp_path):
    bare = shutil.copytree(tiny, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template"):
        lm_of(f"hf:{bare}", tmp_path)


def test_saved_program_keeps_model(tiny, tmp_path):
    lm = lm_of(f"hf:{tiny}", tmp_path, temperature=0.5)
    asking = program()
    asking.set_lm(lm)
    copied = asking.deepcopy().reason.lm
    assert copied.provider is lm.provider and copied.engine is lm.engine and copied.kwargs["temperature"] == 0.5


def test_resumed_compile_uses_trained_model(tiny, tmp_path, monkeypatch):
    trained = shutil.copytree(tiny, tmp_path / "trained")
    (trained / "generation_config.json").write_text('{"eos_token_id": [4, 5]}')  # another model, by its fingerprint
    models = []

    def compile_program(program, *_, trainable, **__):
        trained_program = program.deepcopy()
        trained_program.set_lm(trainable(dspy.settings.lm).copy(model=f"hf:{trained}"))
        return trained_program, {"winner": "compiled", "trained": trained_program.get_lm().finetuning_model}

    def measure(measurer, name, program):
        if name == "compiled":
            models.append(program.get_lm().model)
            raise KeyboardInterrupt

    monkeypatch.setattr("programs.optimize.run.compile_program", compile_program)
    monkeypatch.setattr("programs.evaluate.measuring.Measurer.measure", measure)
    arguments = ["compile", "--optimizer", "together", "--model", f"hf:{tiny}", "--limit", "1"]
    for more in ((), ("--resume",)):
        result = CliRunner().invoke(cli, [*arguments, "--output", str(tmp_path / "run"), *more])
        assert result.exit_code == 130, result.output
    assert len(models) == 2 and len({*models}) == 1 and models[0] == connect(f"hf:{trained}").model


def test_served_model_costs_no_call(tmp_path):
    served = ["--model", "hosted_vllm/x", "--api-base", "http://localhost:1/v1"]
    result = CliRunner().invoke(cli, ["compile", "--optimizer", "together", *served, "--output", str(tmp_path / "run")])
    assert result.exit_code == 2 and "trains the model's weights" in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


class TestOptimizers:
    """DSPy's own, on an R2P program with the pocket model and a few personas."""

    @pytest.fixture(scope="class")
    def examples(self):
        return data.personas(TASK, seed=0, limit=2, train=3)

    def student(self, directory, carrier="fields", **options):
        student = r2p(TASK, carrier=carrier)
        student.set_lm(lm_of("pocket", directory, **{"max_tokens": 256, "temperature": 1.0, **options}))
        return student

    @pytest.mark.parametrize("carrier", ["fields", "thinking"])
    def test_bootstrap_finetune(self, tmp_path, examples, carrier, monkeypatch):
        from finetune import sft

        seen = []
        train = sft.train_sft
        monkeypatch.setattr(
            sft, "train_sft", lambda model, rows, *a, **k: seen.extend(rows) or train(model, rows, *a, **k)
        )
        student = self.student(tmp_path, carrier)
        before = student.reason.lm
        options = {"epochs": 1, "batch": 2, "rate": 1e-3}
        with optimizing():
            tuning = BootstrapFinetune(exclude_demos=True, num_threads=2, train_kwargs=options)
            tuned = tuning.compile(student, trainset=examples.train[:2])
            answer = tuned(**examples.test[0].inputs())
        assert len(seen) == 2
        for trained_row in seen:
            text = trained_row["completion"][0]["content"]
            assert text.startswith("<think>\n<" if carrier == "thinking" else "[[ ## requirements ## ]]")
            assert ("[[ ## reasoning ## ]]" in str(trained_row)) is False
        assert tuned.reason.lm.model != before.model
        assert tuned.reason.lm.engine.fingerprint != before.engine.fingerprint
        assert answer.outcome.error is None and answer[TASK.answer]

    @pytest.mark.parametrize("carrier", ["fields", "thinking"])
    def test_grpo(self, tmp_path, examples, carrier):
        student = self.student(tmp_path, carrier)
        rewards = itertools.count()
        before, lm = student.reason.lm.model, student.reason.lm
        with optimizing():
            tuning = GRPO(
                metric=lambda example, prediction, trace=None: next(rewards) % 2,
                adapter=dspy.ChatAdapter(),
                exclude_demos=True,
                num_train_steps=2,
                num_rollouts_per_grpo_step=2,
                num_threads=2,
                train_kwargs={"learning_rate": 1e-4},
            )
            tuning.compile(Rollouts(student), trainset=examples.train[:2])
            answer = student(**examples.test[0].inputs())
        (job,) = lm.provider.jobs
        assert job.status() == TrainingStatus.succeeded and job.steps == 2
        assert [entry["reward"] for entry in logged(job)] == [0.5, 0.5]
        assert student.reason.lm is lm and lm.model != before and lm.rollouts is None
        assert answer.outcome.error is None

    def test_better_together(self, tmp_path, examples):
        student = self.student(tmp_path, temperature=0.0)
        before, provider = student.reason.lm.model, student.reason.lm.provider
        options = {"epochs": 1, "batch": 2}
        with optimizing():
            demos = BootstrapFewShot(max_bootstrapped_demos=1, max_labeled_demos=0)
            chain = BetterTogether(
                metric=lambda example, prediction, trace=None: float(len(provider.jobs)),  # the trained one wins
                p=demos,
                w=BootstrapFinetune(exclude_demos=True, num_threads=2, train_kwargs=options),
            )
            compiled = chain.compile(
                student, trainset=examples.train, valset=examples.dev[:1], num_threads=2, strategy="p -> w -> p"
            )
            answer = compiled(**examples.test[0].inputs())
        assert not compiled.flag_compilation_error_occurred
        assert [candidate["strategy"] for candidate in compiled.candidate_programs] == [
            "p -> w",
            "p -> w -> p",
            "",
            "p",
        ]
        assert compiled.reason.lm.model != before and answer.outcome.error is None
