"""Containers: their names, where the audio in a file begins and ends, what their headers state."""
