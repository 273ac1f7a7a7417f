"""Rules that recognize linear layers in a captured graph, one pattern a file."""
