"""Open Inference Protocol, version 2, over HTTP and gRPC: named arrays in, named arrays out."""
