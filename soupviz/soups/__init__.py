"""Cooking a recipe and planning its cost; exporting a soup, rebuilding and loading it."""
