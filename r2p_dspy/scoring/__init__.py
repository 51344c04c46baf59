"""How an answer is scored: the composite score, feedback in words, completions."""
