"""Storage formats on GPUs, one a module; the file name is the format's name."""
