"""From a mix and a split to a score: the evaluator, early rejection, BatchNorm's statistics, and the scores kept."""
