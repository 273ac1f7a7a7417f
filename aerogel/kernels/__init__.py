"""Sparse kernels, one folder per device type."""
