"""From Trainer's folders of a token classifier to a kitchen, and to the verdict on its soups."""

from collections.abc import Sequence

import soupviz as sv
from examples import common
from examples.punctuation import training


def main(arguments: Sequence[str] | None = None) -> None:
    order = common.order("punctuation", __doc__, arguments)
    data = training.write_data(order)
    runs = training.train(order, data)
    proposed = common.soupviz("new", runs, "--data", data, "--out", order.folder)
    kitchen = sv.Kitchen.load(proposed["kitchen"])
    rows = common.compare(kitchen, common.COMPARED)
    common.tell(order, "punctuation", common.table(kitchen, rows), {"sweep": common.found_in(kitchen, rows)})


if __name__ == "__main__":
    main()
