"""The face: the console command."""
