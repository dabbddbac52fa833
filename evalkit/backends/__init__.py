"""Whatever answers requests: a model in this process, a server, a file of recorded answers."""
