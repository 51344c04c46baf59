"""The form of an answer as a grammar: from the template, the signature and the items that the prompt shows."""
