"""The `ptg` command."""
