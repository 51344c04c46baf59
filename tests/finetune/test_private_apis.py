"""What finetune uses of other libraries' internals is still there."""

import inspect

import pytest
import torch
import trl
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl
from transformers.trainer_callback import CallbackHandler

from finetune import private_apis


@pytest.mark.parametrize("name", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_torch_knows_cpu_bf16(name):
    assert isinstance(getattr(torch.cpu, name)(), bool)
    assert isinstance(private_apis.cpu_computes_bf16(), bool)


def test_callbacks_run_in_list_order():
    calls = []

    class Named(TrainerCallback):
        def __init__(self, name):
            self.name = name

        def on_evaluate(self, args, state, control, **_):
            calls.append(self.name)

    class Trainer:
        args, state, control = None, None, TrainerControl()
        callback_handler = CallbackHandler([Named("second")], None, None, None, None)

    private_apis.insert_callback_first(Trainer, Named("first"))
    private_apis.announce_evaluation(Trainer, {})
    assert calls == ["first", "second"]


def test_evaluation_unwraps_the_model_with_trl():
    from trl.models import unwrap_model_for_generation

    assert [*inspect.signature(unwrap_model_for_generation).parameters][:2] == ["model", "accelerator"]


@pytest.mark.parametrize(
    "name",
    [
        "self._step",
        "self._metrics",
        "self.num_generations",
        "self.args.steps_per_generation",
        "self.current_gradient_accumulation_steps",
    ],
)
def test_grpo_trainer_reads_step_shape(name):
    assert name in inspect.getsource(trl.GRPOTrainer)


def test_grpo_trainer_takes_rollouts():
    assert "rollout_func" in inspect.signature(trl.GRPOTrainer.__init__).parameters


@pytest.mark.parametrize("name", ['"env_mask"', "self.vllm_generation = VLLMGeneration"])
def test_grpo_trainer_lets_rollouts_mask_tokens_and_ask_its_server(name):
    assert name in inspect.getsource(trl.GRPOTrainer)


def test_client_takes_a_form_for_each_request():
    from trl.generation import vllm_client, vllm_generation

    assert "generation_kwargs" in inspect.signature(vllm_client.VLLMClient.generate).parameters
    assert "self.vllm_client = VLLMClient" in inspect.getsource(vllm_generation)


def test_mixed_precision_is_a_forward_pass_on_the_object():
    assert "model.forward = MethodType" in inspect.getsource(Accelerator.prepare_model)
    model = torch.nn.Linear(2, 2)
    model.forward = lambda inputs: inputs.bfloat16()
    with private_apis.without_mixed_precision(model):
        assert model(torch.ones(2)).dtype == torch.float32
    assert model(torch.ones(2)).dtype == torch.bfloat16
