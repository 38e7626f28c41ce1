"""Times soupviz against the textbook's loops, in turn, on one machine, and checks that both decide the same."""
