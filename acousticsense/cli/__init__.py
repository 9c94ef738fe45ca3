"""The `acousticsense` command, one module per command."""
