"""The router: `streamlit run app.py -- FOLDER...` opens the dashboard on the kitchens below the folders."""

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from soupviz.ui import navigation


def main() -> None:
    """Draw the frame at once, load PyTorch behind it, then run the page."""
    st.set_page_config(page_title="soupviz", page_icon="🍲", layout="wide")
    page, links = navigation.choose()
    with st.spinner("Starting PyTorch…"):
        from soupviz.errors import SoupError
        from soupviz.ui import people, session, sidebar
        from soupviz.ui.ending import PageEnd
        from soupviz.ui.verbatim import verbatim
    try:
        people.sign_in()
        place = sidebar.draw()
    except PageEnd:
        return
    except SoupError as error:
        st.error(verbatim(str(error)))
        navigation.draw(links, {})  # away from what the address names
        return
    try:
        page.run()
    except SoupError as error:  # what a page did not expect is the user's to mend: the core's words, no traceback
        st.error(verbatim(str(error)))
    except PageEnd:
        pass
    sidebar.draw_running(place)
    navigation.draw(links, session.next_address())


if get_script_run_ctx(suppress_warning=True):
    main()
else:
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from streamlit.runtime.pages_manager import PagesManager

    from soupviz.cli.serving import HERE, allowed_hosts, check_sign_in, is_loopback
    from soupviz.errors import SoupError
    from soupviz.ui.callers import OwnPages
    from soupviz.ui.download import routes

    # Until a first visit runs st.navigation, a link to /soup would run pages/soup.py alone, without this router.
    PagesManager.uses_pages_directory = False
    # Whoever starts Streamlit without our command, on another address, is held to the same.
    if allowed_hosts() or not is_loopback(st.get_option("server.address") or ""):
        try:
            check_sign_in("streamlit run app.py")
        except SoupError as error:  # in one line, as the command says it
            raise SystemExit(f"soupviz: {error}") from None
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[*HERE, *allowed_hosts()])
    app = st.App(__file__, routes=routes(), middleware=[hosts, Middleware(OwnPages)])
