"""The parts of the page Plane."""
