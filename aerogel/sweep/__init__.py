"""Grids of training runs: run, resumed, summarised over seeds, interpolated to a density, drawn."""
