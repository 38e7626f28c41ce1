"""What a model's outputs mean: metrics, paired statistics, ensembles, calibration, slices."""
