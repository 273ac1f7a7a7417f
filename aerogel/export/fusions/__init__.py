"""Subgraphs that become one node, one kind a file."""
