"""What a log and a protocol's view of it hide from a table of metrics: leaks, order, distributions, shortcuts."""
