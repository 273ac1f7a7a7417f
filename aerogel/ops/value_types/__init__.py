"""Ways to store the values of a matrix, one a file."""
