"""Methods of a model in bulk; each module defines ``BULK``."""
