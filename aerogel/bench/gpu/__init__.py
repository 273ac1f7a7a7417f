"""The GPU benchmark: linear layers, training steps and a whole encoder, against PyTorch.

Importing it needs no GPU, and with ``--dry-run`` all of it runs on the CPU in small sizes.
"""
