"""A run's folder as its framework left it, recognised, and turned into a kitchen.yaml.

One file for each framework looks whether a folder is its own and says what it finds there, each value with the file
that it is from. `recognise` joins that with the data that lies below a path or beside the run, and lists what nobody
can know and the user has to say. Nothing that a run's files name is imported here; `checking` then opens the first
checkpoint as a kitchen would.
"""

from soupviz.recognition.checking import Checked, check
from soupviz.recognition.proposal import Proposal, recognise
from soupviz.recognition.runs import Answers, Question

__all__ = ["Answers", "Checked", "Proposal", "Question", "check", "recognise"]
