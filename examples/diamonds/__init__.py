"""What diamonds cost: fine-tunes of a small net on measurements, for the task regression."""

from examples import need

need("plotnine")
