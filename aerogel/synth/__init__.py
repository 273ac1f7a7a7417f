"""Random masked checkpoints of real architectures."""
