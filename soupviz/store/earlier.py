"""Stores of versions before tasks: their scores are carried over when the store is opened for the first time."""

import sqlite3

HAS_EARLIER = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'scores'"


def carry_over(connection: sqlite3.Connection) -> None:
    """Move what the one table of scores and examples had into the two of today, within the caller's transaction."""
    if connection.execute(HAS_EARLIER).fetchone() is None:
        return
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute(HAS_EARLIER).fetchone() is None:  # another process was faster
        return
    of = "json_extract(summary, '$.{}')".format
    connection.execute(
        "INSERT OR IGNORE INTO results (key, split, metric, value, num_units, precision, device, summary, created) "
        f"SELECT key, {of('split')}, 'accuracy', {of('accuracy')}, {of('num_examples')}, {of('precision')}, "
        f"COALESCE({of('device')}, 'cpu'), summary, created FROM scores WHERE summary IS NOT NULL"
    )
    connection.execute("INSERT OR IGNORE INTO outcomes (key, columns) SELECT key, examples FROM scores")
    connection.execute("DROP TABLE scores")
