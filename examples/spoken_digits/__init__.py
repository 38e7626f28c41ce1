"""Strings of spoken digits: checkpoints of one run, and fine-tunes of its last, judged by word errors."""

from examples import need

need("soundfile")
