"""GPU kernels in Triton, one file per operation.

Each file contains the equations and the layout of its operation, a reference in plain PyTorch, the kernels, a function
that chooses tiles, and a wrapper that checks its arguments. Importing one imports torch and triton. If
``TRITON_INTERPRET=1`` is set before the import, kernels run on CPU tensors in Triton's interpreter: slowly, for tests.
"""
