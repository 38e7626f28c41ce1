"""The parts of the page Soup."""
