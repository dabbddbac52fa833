"""A stand-in for a Python interpreter that has vLLM: it takes vLLM's command line and runs the stub server."""

from __future__ import annotations

import sys
from pathlib import Path

import stub_server

# ``--fake`` says how it fails; its process id and command line go into a file ``note`` beside it.
_SERVER = """
import os, sys, time
argv = sys.argv[1:]
with open(NOTE, "w") as note:
    print(os.getpid(), *argv, file=note)
how = argv[argv.index("--fake") + 1] if "--fake" in argv else ""
print("(APIServer pid=1) INFO 11-20 14:31:44 [x.py:1] Loading \\x1b[1mweights\\x1b[0m", flush=True)
if how == "crash":
    print("(EngineCore pid=2) ERROR 11-20 14:31:44 [core.py:1] OSError: the header is too large", flush=True)
    sys.exit("RuntimeError: Engine core initialization failed. See root cause above.")
if how == "hang":
    time.sleep(600)
time.sleep(1.2 if how == "slow" else 0)
options = ["--port", argv[argv.index("--port") + 1], "--api-key", os.environ["VLLM_API_KEY"]]
os.execv(sys.executable, [sys.executable, STUB, "--model", "model", "--model", "adapter", *options])
"""


def write_fake_vllm(folder: Path) -> str:
    """Write an interpreter that claims to have vLLM 9.9 for GPUs; return its path."""
    server = folder / "fake_server.py"
    note = repr(str(folder / "note"))
    server.write_text(_SERVER.replace("STUB", repr(stub_server.__file__)).replace("NOTE", note))
    python = folder / "python"
    python.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -c ]; then echo \'{"vllm": "9.9", "torch": "2.0"}\'; exit; fi\n'
        f'exec {sys.executable} {server} "$@"\n'
    )
    python.chmod(0o755)
    return str(python)
