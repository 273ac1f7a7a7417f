"""Pruned layers on GPUs: operators on Triton kernels, their modules, and the format selection."""
