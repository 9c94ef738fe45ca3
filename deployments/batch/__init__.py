"""Batch jobs on Ray Data: many files from folders or object stores to a table of predictions.

sources ─▶ hear (CPU actors: read, decode, log-mel) ─▶ classify (GPU or CPU actors: model,
calibration) ─▶ write (one part file a chunk, atomic) ─▶ report
"""
