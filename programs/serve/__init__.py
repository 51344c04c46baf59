"""A service of programs over HTTP: typed answers, users' histories, feedback, tokens, limits."""
