"""python -m soupviz.bench KIND FILE...: the process whose time and memory the benchmark measures."""

import sys
from pathlib import Path

from soupviz.bench.mixes import mix_and_write, peak_during

kind, *names = sys.argv[1:]
sys.stdout.write(str(peak_during(lambda: mix_and_write(kind, [Path(name) for name in names]))))
