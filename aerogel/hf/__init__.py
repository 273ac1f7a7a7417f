"""Loading and structure of transformers models."""
