"""The forms of answers in training; GRPO's rollouts that follow or are corrected, and which tokens the loss counts."""
