"""`python -m acousticsense`, the same as the console command."""

from acousticsense.main import app

app()
