"""Ways to multiply by a pruned matrix. Each module of this folder is one, found by its file name."""
