"""`python -m acousticsense`."""

from acousticsense.cli.main import app

app()
