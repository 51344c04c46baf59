"""How an answer came about, typed, and told to a person: attempts, candidates, explanations as text and as HTML."""
