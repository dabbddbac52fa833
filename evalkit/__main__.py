"""``python -m evalkit`` is the command line."""

from evalkit.cli.main import main

main()
