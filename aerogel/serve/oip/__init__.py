"""Open Inference Protocol, version 2, over HTTP: named arrays in, named arrays out, as JSON or as binary tensors."""
