"""The parts of the page Preflight."""
