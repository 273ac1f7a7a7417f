"""Masks, storage formats and the accounting of sparsity. Pure numpy: nothing here needs torch or onnx."""
