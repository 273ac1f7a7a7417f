"""Files, text, options and the machine: helpers for every other package."""
