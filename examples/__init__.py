"""Real kitchens, a folder each: `python -m examples.NAME [FOLDER]` trains one, cooks its soups and judges them."""

import sys
from importlib.util import find_spec


def need(*modules: str) -> None:
    """End the program with a line where a package that an example is made of is not installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        sys.exit(f"{', '.join(missing)}: not installed; pip install -r examples/requirements.txt")
