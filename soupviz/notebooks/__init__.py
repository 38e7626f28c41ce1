"""Kitchens, soups and curves as a notebook shows them: a picture with a table, and a chart of Altair."""
