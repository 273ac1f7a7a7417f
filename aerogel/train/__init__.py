"""Training with pruning: tasks, methods, the loop, and the checkpoint at its end. Needs the extra `train`."""
