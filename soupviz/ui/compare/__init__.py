"""The parts of the page Compare: every ingredient and every soup, with a plain verdict on each."""
