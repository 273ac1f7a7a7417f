"""The ONNX operators: signature, function body, value types."""
