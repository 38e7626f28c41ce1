"""What may be imported or unpickled, and which paths may be read: the one place that decides.

The command line takes a kitchen's name as consent. The dashboard asks: it gathers a `Request` of all that would run,
remembers the user's yes, and binds the kitchen's folder to exactly what was approved before anything is opened.
"""

from soupviz.trust.asking import Allowed, Request, check_paths, request
from soupviz.trust.binding import (
    Approved,
    approved,
    bind,
    bind_in_worker,
    check_fetch,
    check_place,
    check_read,
    check_use,
    source,
)
from soupviz.trust.naming import LIBRARIES, OWN_FACTORIES, runs_code

__all__ = [
    "LIBRARIES",
    "OWN_FACTORIES",
    "Allowed",
    "Approved",
    "Request",
    "approved",
    "bind",
    "bind_in_worker",
    "check_fetch",
    "check_paths",
    "check_place",
    "check_read",
    "check_use",
    "request",
    "runs_code",
    "source",
]
