"""What tests of panels share: a panel is a function that draws on an open kitchen, outside any page."""

import time

from streamlit.testing.v1 import AppTest

from soupviz.ui import work


def settled(app: AppTest) -> AppTest:
    """Run until the jobs that were asked for are done."""
    deadline = time.monotonic() + 60
    while any(job.is_active for job in work.jobs()._all):
        assert time.monotonic() < deadline, [job.title for job in work.jobs().active()]
        time.sleep(0.01)
    app.run()
    assert not app.exception
    return app
