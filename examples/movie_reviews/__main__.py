"""From Trainer's folders to a kitchen, and to the verdict on its soups."""

from collections.abc import Sequence

import soupviz as sv
from examples import common
from examples.movie_reviews import training

RECIPES = {
    "uniform soup": common.UNIFORM,
    "greedy soup": common.GREEDY,
    "learned soup, a coefficient per model": {"method": "learned"},
    "learned soup, per layer": {"method": "learned", "per": "layer"},
    "ensemble of all": common.ENSEMBLE,
    "greedy ensemble": {"method": "ensemble", "choice": "greedy"},
}


def main(arguments: Sequence[str] | None = None) -> None:
    order = common.order("movie_reviews", __doc__, arguments)
    data = training.write_data(order)
    runs = training.train(order, data)
    told = common.soupviz("new", runs, "--data", data, "--out", order.folder)
    checked = told["check"]
    common.say(f"{told['kitchen']}: {checked['correct']} of {checked['num_examples']}, logged {checked['logged']}")
    kitchen = sv.Kitchen.load(told["kitchen"])
    rows = common.compare(kitchen, RECIPES)
    common.tell(
        order, "movie_reviews", common.table(kitchen, rows), {"check": checked, "rows": [row.as_dict() for row in rows]}
    )


if __name__ == "__main__":
    main()
