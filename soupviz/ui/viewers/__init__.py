"""What a unit of a split looks like: a viewer for each kind of unit."""
