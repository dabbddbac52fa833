"""What people hand in, read and checked where it enters: suites, gates, data sets, checkpoints."""
