"""Evaluation of a checkpoint, with intervals, against baselines and under corruption."""
