"""What a command measures: a task, its program, and its examples."""

from dataclasses import dataclass
from typing import Any

import dspy

from programs.data.dataset import Data, DataConfig
from programs.data.fitting import task_for
from programs.data.reading import read_examples
from programs.evaluate.baselines import WithRetrieval, baselines
from programs.runs.configs import digest
from programs.runs.model import ModelConfig
from programs.runs.reporter import Reporter
from programs.tasks.answer_length import tokens_needed
from programs.tasks.program import ProgramBuilder, ProgramConfig
from programs.tasks.task import Task
from r2p_dspy import R2P


@dataclass(frozen=True)
class Setup:
    """A task with its program and its examples."""

    task: Task
    config: ProgramConfig
    builder: ProgramBuilder  # builds the task's programs with other settings
    program: R2P  # of the config, with what was compiled
    data: Data

    @classmethod
    def of(
        cls, program: ProgramConfig, data: DataConfig, reporter: Reporter, *, least: int = 1, read: Data | None = None
    ) -> "Setup":
        """Build the program and read the examples, unless they are read already; at least `least` for training."""
        task = task_for(program.task, data.source, reporter.say)
        builder = ProgramBuilder(task, program)
        loaded = builder.load()
        return cls(task, program, builder, loaded, read or read_examples(task, data, reporter.say, least))

    def tokens_needed(self, program: dspy.Module | None = None) -> int:
        """The tokens that answers of a program need, by default of the task's R2P; see `answer_length`."""
        golds = [example[self.task.gold] for example in self.data.train]
        return tokens_needed(self.task, program or self.program, golds)

    def baselines(self, model: ModelConfig) -> dict[str, WithRetrieval]:
        """Plain prediction and chain of thought; their answers are shorter than R2P's, and so are their limits."""
        programs = baselines(self.task, self.program.retriever)
        for program in programs.values():
            program.max_tokens = model.answer_limit(self.tokens_needed(program))
        return programs

    def identity(self, lm: dspy.LM, judge: dspy.LM | None = None, second: dspy.LM | None = None) -> dict[str, Any]:
        """What a resumed run must have beside the same options: model, data and program, not only their names."""
        return {
            "lm": lm.model,
            "examples": self.data.digest,
            "compiled": digest(self.config.artifact),
            "judge_lm": judge and judge.model,
            **({} if second is None else {"second_judge_lm": second.model}),
            "task_file": digest(self.config.task),
            "skipped": self.data.skipped,
        }
