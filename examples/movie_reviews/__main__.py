"""From Trainer's folders to a kitchen, and to the verdict on its soups."""

from collections.abc import Sequence

import soupviz as sv
from examples import common
from examples.movie_reviews import training

RECIPES = common.COMPARED | {
    "learned soup, a coefficient per model": {"method": "learned"},
    "learned soup, per layer": {"method": "learned", "per": "layer"},
    "greedy ensemble": {"method": "ensemble", "choice": "greedy"},
}


def main(arguments: Sequence[str] | None = None) -> None:
    order = common.order("movie_reviews", __doc__, arguments)
    data = training.write_data(order)
    runs = training.train(order, data)
    proposed = common.soupviz("new", runs, "--data", data, "--out", order.folder)
    checked = proposed["check"]
    common.say(f"{proposed['kitchen']}: {checked['correct']} of {checked['num_examples']}, logged {checked['logged']}")
    kitchen = sv.Kitchen.load(proposed["kitchen"])
    rows = common.compare(kitchen, RECIPES)
    told = common.table(kitchen, rows)
    common.tell(order, "movie_reviews", told, {"sweep": common.found_in(kitchen, rows)}, check=checked)


if __name__ == "__main__":
    main()
