"""Tests of the queue for people and of what they say."""
