"""The dashboard's server, which also writes down what it scores: `python -m benchmarks.soak.server run app.py ...`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soupviz.scoring.service import Scores

ASKED = "asked.jsonl"
"""In the folder of the kitchen's store: each mix that was scored, with its split, its aggregation and its key."""


def recording(attempt: Callable[..., Any]) -> Callable[..., Any]:
    """Scoring that writes down what it was asked for; a key tells a mix from others, and not what it is."""

    def recorded(self: Scores, mix: Any, split: str, aggregation: str, *arguments: Any, **options: Any) -> Any:
        line = json.dumps([self.key(mix, split, aggregation), mix, split, aggregation])
        with (Path(self.scorer.store.path).parent / ASKED).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")  # before it is scored, as the server may be killed meanwhile
        return attempt(self, mix, split, aggregation, *arguments, **options)

    return recorded


if __name__ == "__main__":
    from streamlit.web.cli import main

    Scores.attempt = recording(Scores.attempt)  # type: ignore[method-assign]
    sys.exit(main())
