"""evalkit decides whether a fine-tuned language model may ship.

Importing the package loads nothing heavy and touches nothing outside the process.
"""

__version__ = "0.1.0"
