"""Independent truths and baselines that tests and benchmarks share."""
