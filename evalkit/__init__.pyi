from evalkit.api import Run as Run
from evalkit.api import load as load
from evalkit.api import run as run
from evalkit.asserting import assert_gate as assert_gate

__version__: str
__all__ = ["Run", "__version__", "assert_gate", "load", "run"]
