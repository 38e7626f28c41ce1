"""python -m soupviz"""

from soupviz.cli import main

main()
