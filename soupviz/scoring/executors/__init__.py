"""Who evaluates: this process, or workers with the same model and data, who find what this one would."""
