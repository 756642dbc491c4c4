"""One script per claim in BENCHMARKS.md."""
