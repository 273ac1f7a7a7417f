"""Sparse kernels, one folder per kind of machine."""
