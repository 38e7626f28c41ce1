"""Transcripts: decoders, normalisers, and how many edits lie between texts."""
