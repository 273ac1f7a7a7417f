"""Files, text, options and what the machine is: what every other room uses."""
