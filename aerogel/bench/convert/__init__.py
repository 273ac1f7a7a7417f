"""Convert models to the form that each third-party backend runs fastest."""
