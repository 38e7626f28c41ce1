"""The dashboard's server, which also writes down what it scores: `python -m benchmarks.soak.server run app.py ...`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soupviz.mixing.aggregation import OUTPUTS
from soupviz.scoring.service import Scores
from soupviz.spec import HELD_OUT

ASKED = "asked.jsonl"
"""In the folder of the kitchen's store: each mix that was scored, with its split, its aggregation and its key."""


def recording(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Scoring that writes down what it was asked for; a key tells a mix from others, and not what it is."""

    def recorded(
        self: Scores, mix: Any, split: str = HELD_OUT, aggregation: str = "average", *more: Any, **options: Any
    ) -> Any:
        asked = [(mix, aggregation)]
        if aggregation in OUTPUTS:  # of an ensemble each member is scored, too
            asked += [(((name, 1.0),), "average") for name, _ in mix]
        lines = [json.dumps([self.key(one, split, how), one, split, how]) for one, how in asked]
        with (Path(self.scorer.store.path).parent / ASKED).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)  # before it is scored: the server may be killed meanwhile
        return ask(self, mix, split, aggregation, *more, **options)

    return recorded


if __name__ == "__main__":
    from streamlit.web.cli import main

    Scores.attempt = recording(Scores.attempt)  # type: ignore[method-assign]
    Scores.logits = recording(Scores.logits)  # type: ignore[method-assign]
    sys.exit(main())
