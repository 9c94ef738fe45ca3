"""Labelled recordings: what a data set may look like, its splits, its windows."""
