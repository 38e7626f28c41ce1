"""Experiment trackers: what is told of a soup, and one module for each library that keeps it."""
