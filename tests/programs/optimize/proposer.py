"""Scripted models for compiling: one that knows some of the examples, and one that writes instructions."""

import dspy

from programs.data.personas import films
from programs.data.personas.world import draw, example
from programs.tasks import lamp2
from tests.scripted import ScriptedEngine, completion

TASK = lamp2.TASK
EXAMPLES = [example(TASK, case) for case in draw(films.case, "train", 40)]
HELPS = "Read every item twice."  # what makes the task model right about all


def asked_example(request):
    """Which example a request asks about, and the question's message."""
    text = next(message.text for message in reversed(request.messages) if '"description": "' in message.text)
    return next(case for case in EXAMPLES if case[TASK.question] in text), text


def answer(request, right):
    """An answer that cites properly, with the right tag or a wrong one."""
    case, text = asked_example(request)
    quote = text.split('"description": "')[1].split('"')[0]
    gold = case[TASK.answer]
    tag = gold if right else next(label for label in TASK.labels if label != gold)
    return completion(evidence=f'[{{"item": "1", "quote": "{quote}"}}]', preferences="[]", draft=tag, tag=tag)


def knowing(right):
    """What a model says that is right about some examples, and wrong about all others."""
    ids = {example.id for example in right}
    return lambda request: answer(request, asked_example(request)[0].id in ids)


def taught_by(right, *, demos=True):
    """A model that is right about some examples, and about all with demos, or under an instruction that helps."""
    alone, all_right = knowing(right), knowing(EXAMPLES)

    def say(request):
        helped = HELPS in (request.system or "") or (demos and len(request.messages) > 1)
        return (all_right if helped else alone)(request)

    return say


def propose(request):
    """What a reflection model writes, to whichever optimizer asks."""
    text = "\n".join([request.system or "", *(message.text for message in request.messages)])
    if "new_instruction" in text:  # GEPA
        return f'{{"new_instruction": "Choose the tag. {HELPS}"}}'
    fields = {"proposed_instruction": f"Choose the tag. {HELPS}"}  # MIPROv2, COPRO
    if "proposed_prefix_for_output_field" in text:
        fields["proposed_prefix_for_output_field"] = "The tag, please:"
    if "module_advice" in text:  # SIMBA
        fields = {"discussion": "One read the items.", "module_advice": f'{{"reason": "{HELPS}"}}'}
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in {**fields, "completed": ""}.items())


def model(say, name="test/model", **options):
    return dspy.LM(name, engine=ScriptedEngine(say), cache=False, num_retries=0, **options)
