"""A checkpoint far larger than the memory that weighing it takes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

GIB = 1 << 30
TABLE = ("model.embed_tokens.weight", (128_256, 4096))


def big_checkpoint(folder: Path, layers: int) -> int:
    """Write a table and so many layers of 4096² and 11008 × 4096 in bfloat16, a shard each; return their bytes."""
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(1 << 22) / 64).astype(ml_dtypes.bfloat16).tobytes()
    shards = [[TABLE]]
    for layer in range(layers):
        at = f"model.layers.{layer}"
        attention, mlp = f"{at}.self_attn.q_proj.weight", f"{at}.mlp.up_proj.weight"
        shards.append([(attention, (4096, 4096)), (mlp, (11_008, 4096))])
    index, total = {}, 0
    for number, tensors in enumerate(shards):
        name, header, end = f"model-{number + 1:05}-of-{len(shards):05}.safetensors", {}, 0
        for tensor, shape in tensors:
            begin, end = end, end + 2 * shape[0] * shape[1]
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
            index[tensor] = name
        head = json.dumps(header).encode()
        with (folder / name).open("wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            for start in range(0, end, len(noise)):
                file.write(noise[: end - start])
        total += end
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    config = {"model_type": "llama", "num_hidden_layers": layers, "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    return total


def anonymous(pid: int) -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) << 10 if found else 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted by Linux")
def test_four_gigabytes_of_weights_are_weighed_in_one_of_anonymous_memory(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    if free < 10 * GIB:
        pytest.skip("less than 10 GiB are free")
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    assert big_checkpoint(model, 25) > 4e9
    command = [sys.executable, "-m", "evalkit", "spectral", str(model), "--out", str(out), "--quiet"]  # fmt: skip
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, anonymous(process.pid))
                time.sleep(0.02)
            told = process.stdout.read()
    finally:
        for file in model.iterdir():
            file.unlink()
    assert process.returncode == 0, told
    assert GIB // 20 < peak < GIB, f"{peak / 1e6:.0f} MB"
    (card,) = out.glob("*/scorecard.json")
    (tally,) = json.loads(card.read_text())["tasks"]
    assert tally["planned"] == 51 and tally["complete"]
