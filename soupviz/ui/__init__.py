"""What the pages share: background jobs, state, tables, charts and the curve component."""
