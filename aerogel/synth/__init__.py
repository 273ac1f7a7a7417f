"""Generate random masked checkpoints of known architectures."""
