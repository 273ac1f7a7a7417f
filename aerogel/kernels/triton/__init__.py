"""GPU kernels in Triton, one file per operation.

Each file holds the mathematics and the layout of its operation, a naive reference in plain PyTorch, the kernels, a pure
function that chooses their tiles from plain numbers, and a wrapper that checks its arguments. Importing one imports
torch and triton. With ``TRITON_INTERPRET=1`` in the environment before that, the kernels run on CPU tensors in
Triton's interpreter: slow, and what the tests do.
"""
