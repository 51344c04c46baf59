"""What a run keeps of each example for a reader: prompts, completions, reasoning, evidence, and what was corrected."""
