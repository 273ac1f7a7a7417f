"""Grids of training runs: run and resume them, summarize over seeds, interpolate in density, plot."""
