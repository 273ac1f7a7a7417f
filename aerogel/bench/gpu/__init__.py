"""The measurement of GPUs: products, training steps and a whole encoder, against what PyTorch has.

Nothing here needs a GPU to be imported, and with ``--dry-run`` all of it runs on the CPU in small.
"""
