"""What the server does behind the pages: kitchens held open, and the jobs that pages start."""

from graphlib import TopologicalSorter
from pathlib import Path

from test_imports import imported

import soupviz.ui

UI = Path(soupviz.ui.__file__).parent


def test_the_rooms_of_the_dashboard_import_one_way() -> None:
    rooms = {path.stem: imported(path.read_text(encoding="utf-8")) for path in UI.glob("*.py")}
    graph = {room: {name for name in rooms if f"soupviz.ui.{name}" in names} for room, names in rooms.items()}
    order = list(TopologicalSorter(graph).static_order())  # a circle raises CycleError
    assert order.index("jobs") < order.index("work") < order.index("session") < order.index("sidebar")
