"""A page may end wherever it is; unlike `st.stop`, what frames it is drawn still."""

from typing import NoReturn


class PageEnd(Exception):  # noqa: N818 - nothing went wrong
    """Raised where a page has nothing more to show; app.py goes on with what stands beside it."""


def end_page() -> NoReturn:
    """Show nothing more of the page, outside of its fragments."""
    raise PageEnd
