"""One SQLite file beside a kitchen: every score, every run, and what was found out of soups."""
