"""Side-by-side measurements. `make bench` runs every module here that has a `run`, and writes results/BENCHMARKS.md."""
