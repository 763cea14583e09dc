"""Training: loop, checkpoints, resume, validation, metrics."""
