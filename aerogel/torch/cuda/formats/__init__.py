"""Ways to store and multiply pruned matrices on GPUs. Each module of this folder is one, found by its file name."""
