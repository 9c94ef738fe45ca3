"""How good a checkpoint is, with intervals, against baselines and under corruption."""
