"""Answers that a person looks at: which ones, and how what the person says comes back."""
