"""The parts of the page Shift."""
