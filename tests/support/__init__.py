"""Real processes for tests and benchmarks: gateway, engine."""
