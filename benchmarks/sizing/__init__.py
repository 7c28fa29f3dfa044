"""Plans how many servers a load needs, by a discrete-event simulation; `python -m benchmarks.sizing --help`."""
