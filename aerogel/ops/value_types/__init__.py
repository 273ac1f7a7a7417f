"""Value types, one a file."""
