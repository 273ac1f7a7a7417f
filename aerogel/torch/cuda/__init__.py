"""Pruned layers on GPUs: Triton kernels as operators, the modules on them, and the choice of one for each matrix."""
