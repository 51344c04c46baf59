"""A student of a few thousand weights with the pocket model's tokenizer: it knows nothing, and trains at once."""

import dspy
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from finetune.student import Student
from finetune.task_setup import RowBuilder
from programs.tasks.task import Task
from r2p_dspy.engines.weights import POCKET
from r2p_dspy.profile import Profile
from tests.film import FILM, HISTORY, Film, program
from tests.scripted import completion

TASK = Task(
    name="films",
    signature=Film,
    question="film",
    answer="tag",
    fields=("text",),
    label="tag",
    labels=("romance", "fantasy"),
    metrics=("accuracy",),
)


def tiny_student(directory, template=None, context=4096, layers=1):
    """Writes such a student to a directory, maybe with another chat template."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(POCKET)
    if template is not None:
        tokenizer.chat_template = template or None
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=context,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def examples(count):
    """Films to ask about, the right tag always the same."""
    profile = Profile.model_validate(HISTORY)
    films = [dspy.Example(id=str(n), film=f"{FILM} {n}", profile=profile, tag="romance") for n in range(count)]
    return [film.with_inputs("film", "profile") for film in films]


def student_program(carrier="fields"):
    """The program that the student answers for."""
    return program(carrier=carrier, max_backtracks=0, max_interventions=0)


def rows(student, count, carrier="fields"):
    """Questions with the answer that is to be learnt."""
    build = RowBuilder(student_program(carrier), TASK, Student.load(student), tokens=64)
    answer = [{"role": "assistant", "content": completion()}]
    return [{**build(example), "completion": answer} for example in examples(count)]
