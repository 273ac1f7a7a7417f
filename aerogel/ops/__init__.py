"""The ONNX functions of Aerogel: signatures, bodies and value types."""
