"""Records to pictures: data and a Vega-Lite specification, the same on a page and in a report."""
