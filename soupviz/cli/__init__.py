"""The command line: `python -m soupviz COMMAND`."""
