"""The places of the dashboard: six in the sidebar, and above a page's title the views of its place."""

import streamlit as st
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


def choose() -> StreamlitPage:
    """Draw the places and the views of the one that is open; gives the page to run."""
    pages = {view: _page(view) for _, views in PLACES.values() for view in views}
    # The default page lives at the root; who types its name finds it too.
    alias = st.Page(f"pages/{DEFAULT}.py", url_path=DEFAULT)
    current = st.navigation([*pages.values(), alias], position="hidden")
    if current.url_path == DEFAULT:
        pages[DEFAULT] = current
    name = next(view for view, page in pages.items() if page == current)
    with st.sidebar.container(key="places", gap="xxsmall"):
        for place, (icon, views) in PLACES.items():
            link = pages[name if name in views else next(iter(views))]
            st.page_link(link, label=place, icon=f":material/{icon}:", width="stretch")
    views = next(views for _, views in PLACES.values() if name in views)
    if len(views) > 1:
        with st.container(key="views", horizontal=True, gap="xsmall"):
            for view, label in views.items():
                st.page_link(pages[view], label=label)
    return current


def _page(view: str) -> StreamlitPage:
    is_default = view == DEFAULT
    return st.Page(f"pages/{view}.py", title=view.title(), url_path="start" if is_default else view, default=is_default)
