"""The router: `streamlit run app.py -- FOLDER...` opens the dashboard on the kitchens below the folders."""

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx


def main() -> None:
    """Draw the frame at once, load PyTorch behind it, then run the page."""
    st.set_page_config(page_title="soupviz", page_icon="🍲", layout="wide")
    page = st.navigation(
        [
            st.Page(
                "pages/ingredients.py",
                title="Ingredients",
                icon=":material/egg_alt:",
                url_path="start",
                default=True,
            ),
            # The default page lives at the root; who types its name finds it too.
            st.Page("pages/ingredients.py", title="Ingredients", url_path="ingredients", visibility="hidden"),
            st.Page("pages/soup.py", title="Soup", icon=":material/soup_kitchen:", url_path="soup"),
            st.Page("pages/alpha.py", title="Alpha", icon=":material/tune:", url_path="alpha"),
            st.Page("pages/compare.py", title="Compare", icon=":material/balance:", url_path="compare"),
            st.Page("pages/export.py", title="Export", icon=":material/download:", url_path="export"),
            st.Page("pages/kitchens.py", title="Kitchens", icon=":material/folder_open:", url_path="kitchens"),
        ]
    )
    with st.spinner("Starting PyTorch…"):
        from soupviz.ui import sidebar
    sidebar.draw()
    page.run()


if get_script_run_ctx(suppress_warning=True):
    main()
else:
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from streamlit.runtime.pages_manager import PagesManager

    from soupviz.ui.download import routes

    # Until a first visit runs st.navigation, a link to /soup would run pages/soup.py alone, without this router.
    PagesManager.uses_pages_directory = False
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])
    app = st.App(__file__, routes=routes(), middleware=[hosts])
