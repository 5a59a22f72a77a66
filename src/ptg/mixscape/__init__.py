"""Which cells were really perturbed, and how strongly."""
