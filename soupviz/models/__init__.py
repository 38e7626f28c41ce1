"""Building the kitchen's model, calling it, and reading its structure: its graph and its layer groups."""
