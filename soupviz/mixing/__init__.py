"""The arithmetic of weights: weighted sums, merge formulas, alignment. The one place that averages."""
