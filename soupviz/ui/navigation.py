"""The places of the dashboard: six in the sidebar, and above a page's title the views of its place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import StreamlitPage

PLACES = {
    "Ingredients": ("egg_alt", {"ingredients": "Scores", "preflight": "Preflight"}),
    "Soup": ("soup_kitchen", {"soup": "Recipe", "alpha": "Alpha", "layers": "Layers", "grid": "Grid"}),
    "Explore": (
        "travel_explore",
        {"curves": "Curves", "plane": "Plane", "diversity": "Diversity", "shift": "Shift"},
    ),
    "Compare": ("balance", {"compare": "Verdicts", "history": "History"}),
    "Export": ("download", {"export": "Export"}),
    "Kitchens": ("folder_open", {"kitchens": "Kitchens"}),
}
"""Of each place its icon, and its views: what one is called, by the name of its file in pages/ and in its address."""

DEFAULT = "ingredients"

OPENED = "opened view"
"""In the session: the view that was drawn last."""

Address = Mapping[str, str | Sequence[str]]
"""What stands in a page's address, after its name."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a page, in a place of its own."""

    page: StreamlitPage
    label: str
    slot: DeltaGenerator = field(default_factory=st.empty)
    more: Mapping[str, Any] = field(default_factory=dict)


def draw(links: Sequence[Link], address: Address) -> None:
    """Draw links, or draw them anew, with what is to stand in the address that they lead to.

    A page that had to write this into its address by itself would stand twice in the browser's history.
    """
    for link in links:
        link.slot.page_link(link.page, label=link.label, query_params=address, **link.more)


def choose() -> tuple[StreamlitPage, list[Link]]:
    """Draw the places and the views of the one that is open; gives the page to run, and the links.

    They are to be drawn anew once the page has run: it decides what the next one is to show. Until then they lead on
    with what the page was opened with; where it is run again, it may be about to choose otherwise.
    """
    pages = {view: _page(view) for _, views in PLACES.values() for view in views}
    # The default page lives at the root; who types its name finds it too.
    alias = st.Page(f"pages/{DEFAULT}.py", url_path=DEFAULT)
    current = st.navigation([*pages.values(), alias], position="hidden")
    if current.url_path == DEFAULT:
        pages[DEFAULT] = current
    name = next(view for view, page in pages.items() if page == current)
    links = []
    with st.sidebar.container(key="places", gap="xxsmall"):
        for place, (icon, views) in PLACES.items():
            shown = pages[name if name in views else next(iter(views))]
            links.append(Link(shown, place, more={"icon": f":material/{icon}:", "width": "stretch"}))
    views = next(views for _, views in PLACES.values() if name in views)
    if len(views) > 1:
        with st.container(key="views", horizontal=True, gap="xsmall"):
            links += [Link(pages[view], label) for view, label in views.items()]
    is_opened = st.session_state.get(OPENED) != name
    st.session_state[OPENED] = name
    draw(links, {key: st.query_params.get_all(key) for key in st.query_params if is_opened or key == "kitchen"})
    return current, links


def _page(view: str) -> StreamlitPage:
    is_default = view == DEFAULT
    return st.Page(f"pages/{view}.py", title=view.title(), url_path="start" if is_default else view, default=is_default)
