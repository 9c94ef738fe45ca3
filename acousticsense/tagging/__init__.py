"""Genres in the tags of people's files: which to write, how, and how to take them back."""
