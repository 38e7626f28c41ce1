"""Recordings: found, read at one rate, and given to a model as it takes them."""
