"""Models in the forms that other runtimes run best."""
