"""Rules that recognise linear layers in a captured graph, one shape a file."""
