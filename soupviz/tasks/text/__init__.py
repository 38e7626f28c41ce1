"""Tasks of language: models of the next token, choices by likelihood, tags of words."""
