"""python -m benchmarks [--watch] KIND FILE...: the process whose time, or peak of memory, the benchmark measures."""

import sys
from functools import partial
from pathlib import Path

from soupviz.cli.startup import loading

with loading():
    from benchmarks.process import mix_and_write, peak_during

is_watched = sys.argv[1] == "--watch"
kind, *names = sys.argv[1 + is_watched :]
work = partial(mix_and_write, kind, [Path(name) for name in names])
if is_watched:
    sys.stdout.write(str(peak_during(work)))
else:
    work()
