"""Benchmarks: latency and memory of exported models against the dense baseline, one process per model."""
