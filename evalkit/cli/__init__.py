"""The command line: one file per command. The only place that names concrete parts."""
