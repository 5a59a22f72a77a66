"""Which guide is in each cell."""
