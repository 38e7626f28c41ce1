"""How long scoring, greedy and a sweep take with workers, against one process."""
