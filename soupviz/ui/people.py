"""Who looks at a page: whoever signed in, or who runs the server."""

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from soupviz.cli.serving import allowed_hosts, is_loopback
from soupviz.store.recording import system_user
from soupviz.ui.ending import end_page


def must_sign_in() -> bool:
    """Whether others than this computer are answered."""
    return bool(allowed_hosts()) or not is_loopback(st.get_option("server.address") or "")


def sign_in() -> None:
    """Where people sign in, nothing is shown before they have."""
    if not must_sign_in() or is_signed_in():
        return
    st.title("soupviz")
    st.write("Sign in to see the kitchens of this server.")
    st.button("Sign in", type="primary", on_click=st.login)
    end_page()


def is_signed_in() -> bool:
    """Whether the one who looks at the page has signed in."""
    return bool(st.user.to_dict().get("is_logged_in"))


def person() -> str:
    """What the one who looks at the page is called: by the name or address of who signed in, else by the system."""
    if get_script_run_ctx(suppress_warning=True) is not None and is_signed_in():
        told = st.user.to_dict()
        return str(told.get("email") or told.get("name") or told.get("sub"))
    return system_user()
