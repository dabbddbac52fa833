"""Data sets of published bias tests, read from the files as their authors give them; none is shipped with evalkit."""
