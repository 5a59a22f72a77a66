"""Numerical cores: arrays in, arrays out. `contract` says what each computes; `cpu` and `cuda` compute it."""
