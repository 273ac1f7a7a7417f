"""Analysis of a checkpoint's mask: numbers, statistics against random masks, plots. Needs no training code."""
