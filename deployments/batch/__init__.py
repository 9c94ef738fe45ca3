"""Batch jobs on Ray Data: classify many files of folders or object stores into one table.

listing ─▶ preprocess (CPU actors: read, decode, log-mel) ─▶ classify (GPU or CPU actors: model,
calibration) ─▶ parts (one part file per chunk, atomic) ─▶ report
"""
