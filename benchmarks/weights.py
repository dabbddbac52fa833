"""Tier 0 of the weights beside a plain read of the same files: GB/s, ratios and anonymous memory.

    python benchmarks/weights.py
    python benchmarks/weights.py --gib 4 --rounds 3

Makes a sharded bfloat16 checkpoint with the shapes of an 8 B language model (as many blocks as fit the size) and a
second one that moved by half a per cent, in a temporary folder. Then, round by round because machines drift, each in a
process of its own:

1. a plain read of the files: ``readinto`` of 4 MiB, the page cache warm, and cold where the system drops the pages;
2. the tensors as float32 and nothing more: what reading costs before anything is measured;
3. the numbers one by one (``spectral.elementwise``), alone and beside the base's, in one and in two threads;
4. the largest eigenvalue of each matrix (``spectral.norms``), one matrix at a time;
5. the whole of tier 0 (``spectral.weigh``), alone and against the base, warm and cold.

GB/s are of stored bytes, both checkpoints' where both are read; ratios are to the plain read of the same round and
temperature; seconds of processor time per GB say the same where other work shares the machine. The peak of anonymous
memory (``RssAnon``) is watched from outside every 5 ms.

**The floor.** A stored number is 2 bytes. To be measured by numpy it becomes a float32: 2 bytes are copied from the
page cache, 4 written, and then read by each of four passes within the processor's cache (squares, largest, smallest,
zeros), or by eight over two tensors and their difference. An eigenvalue step multiplies every number twice by two
vectors: 8 operations, and 4 bytes of memory traffic where a matrix exceeds the cache.

These matrices take nine steps for 10⁻⁶ of the eigenvalue, so 36 bytes from memory for each 2 stored. Where this was
written memory gives 31 GB/s, to one core as to two, and a plain read is 8.2 GB/s: eigenvalues alone are bound to
1.7 GB/s, 0.21 of a plain read, whatever is done within the cache. There a step takes 22 ms of one core for 235 MB of
float32, where to read them takes 8. Half of a plain read would allow two or three steps, and so a looser tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np

HIDDEN, INNER, KEYS, VOCABULARY = 4096, 14336, 1024, 32064
MOVED = 0.005
SHARD_BYTES = 1 << 30
READ_AT_ONCE = 4 << 20
NUMBERS_AT_ONCE = 1 << 19
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HIDDEN // 128,
    "num_key_value_heads": KEYS // 128,
    "head_dim": 128,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}


# -- the checkpoints -------------------------------------------------------------------------------


def tensors(blocks: int) -> dict[str, tuple[int, ...]]:
    """Return name → shape."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for number in range(blocks):
        shapes = {
            "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (KEYS, HIDDEN),
            "self_attn.v_proj": (KEYS, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN),
            "mlp.down_proj": (HIDDEN, INNER), "input_layernorm": (HIDDEN,),
        }  # fmt: skip
        found |= {f"model.layers.{number}.{name}.weight": shape for name, shape in shapes.items()}
    return found


def block_bytes() -> int:
    """Return what one block takes."""
    return 2 * sum(int(np.prod(shape)) for name, shape in tensors(1).items() if "layers" in name)


def made(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return made-up weights: noise and sixteen directions that stand out of it, as trained matrices have."""
    draw = np.random.default_rng(seed)
    if len(shape) == 1:
        return draw.uniform(0.5, 1.5, shape).astype(np.float32)
    matrix = draw.standard_normal(shape, dtype=np.float32)
    left, right = (draw.standard_normal((side, 16), dtype=np.float32) for side in shape)
    edge = np.sqrt(shape[0]) + np.sqrt(shape[1])
    sizes = edge * (1 + np.arange(1, 17) ** -0.5) / np.sqrt(shape[0] * shape[1])
    matrix += (left * sizes.astype(np.float32)) @ right.T
    matrix *= np.float32(0.02)
    return matrix


def stored(matrix: np.ndarray) -> np.ndarray:
    """Return bfloat16 bits, rounded to nearest."""
    bits = matrix.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write(tuned: Path, base: Path, blocks: int) -> None:
    """Write both checkpoints."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in tensors(blocks).items():
        length = 2 * int(np.prod(shape))
        if size and size + length > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += length
    files = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    places = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    for folder in (tuned, base):
        folder.mkdir()
        config = CONFIG | {"num_hidden_layers": blocks}
        (folder / "config.json").write_text(json.dumps(config))
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for seed, (file, shard) in enumerate(zip(files, shards, strict=True)):
        with (tuned / file).open("wb") as out, (base / file).open("wb") as base_out:
            for target in (out, base_out):
                target.write(header(shard))
            for number, shape in enumerate(shard.values()):
                before = made(shape, 1000 * seed + number)
                base_out.write(stored(before).tobytes())
                draw = np.random.default_rng(1000 * seed + number + 500)
                before *= 1 + np.float32(MOVED) * draw.standard_normal(shape, dtype=np.float32)
                out.write(stored(before).tobytes())
            for target in (out, base_out):
                target.flush()
                os.fsync(target.fileno())


def header(shard: dict[str, tuple[int, ...]]) -> bytes:
    """Return a safetensors header."""
    told, at = {}, 0
    for name, shape in shard.items():
        end = at + 2 * int(np.prod(shape))
        told[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text


# -- what is timed, in a process of its own -----------------------------------------------------------


def plain(folders: list[Path]) -> None:
    """Read every file of the folders."""
    held = memoryview(bytearray(READ_AT_ONCE))
    for folder in folders:
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb", buffering=0) as file:
                while file.readinto(held):
                    pass


def pieces(source, tensor):
    """Yield a tensor as rows, some at a time."""
    rows, columns = tensor.matrix_shape
    if len(tensor.shape) < 2:
        yield source.read(tensor).reshape(rows, columns)
        return
    step = max(1, NUMBERS_AT_ONCE // columns)
    for start in range(0, rows, step):
        yield source.read(tensor, start, min(rows, start + step)).reshape(-1, columns)


def as_float32(tensor, tuned, base):
    """Read a tensor and let go of it."""
    for source in (tuned, base):
        for _ in pieces(source, tensor) if source else ():
            pass


def one_by_one(tensor, tuned, base):
    """Measure a tensor's numbers."""
    from evalkit.spectral.elementwise import Elementwise

    held = Elementwise(tensor.matrix_shape[1], with_base=base is not None)
    if base is None:
        for block in pieces(tuned, tensor):
            held.add(block)
    else:
        for block, beside in zip(pieces(tuned, tensor), pieces(base, tensor), strict=True):
            held.add(block, beside)
    held.stats()


def eigenvalue(tensor, tuned, base):
    """Find a matrix's largest eigenvalue, and its base's."""
    from evalkit.spectral.norms import largest_eigenvalue

    for source in (tuned, base):
        if source and tensor.form == "matrix":
            largest_eigenvalue(source.read(tensor))


def tier_0(tuned, base):
    """Weigh a checkpoint."""
    from evalkit.records.suite import SpectralTask
    from evalkit.spectral.spectrum import NumpyDecomposition
    from evalkit.spectral.weigh import weigh

    quiet = SimpleNamespace(step=lambda text: None, advance=lambda done, total, failed=0: None)
    task = SpectralTask(kind="spectral", name="weights")
    weigh(
        task, "candidate", tuned, base, None,
        level=0.95, seed=0, decomposition=NumpyDecomposition(), progress=quiet,
    )  # fmt: skip


EACH = {"as float32": as_float32, "one by one": one_by_one, "largest eigenvalue": eigenvalue}


def clocked(work) -> tuple[float, float]:
    """Return the seconds that work takes by the clock, and on processors."""
    started, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - spent


def timed(part: str, folders: list[Path], threads: int) -> tuple[float, float]:
    """Do one part; return its seconds by the clock and on processors, without imports and without opening."""
    if part == "plain read":
        return clocked(lambda: plain(folders))
    from evalkit.loaders.weights import open_weights

    sources = [open_weights(folder) for folder in folders]
    tuned, base = sources[0], sources[1] if len(sources) > 1 else None
    small = next(tensor for tensor in tuned.tensors if len(tensor.shape) < 2)
    if part == "tier 0":
        from evalkit.spectral import weigh  # noqa: F401

        return clocked(lambda: tier_0(tuned, base))
    EACH[part](small, tuned, base)  # what is imported late is imported now
    with ThreadPoolExecutor(threads) as pool:
        return clocked(lambda: list(pool.map(lambda t: EACH[part](t, tuned, base), tuned.tensors)))


# -- the rounds -----------------------------------------------------------------------------------------


def let_go(folders: list[Path]) -> bool:
    """Ask the system to drop the files' pages; return whether it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for folder in folders:
        for path in folder.glob("*.safetensors"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def anonymous_mib(pid: int) -> float:
    """Return a process's anonymous memory now; 0 where it cannot be seen."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def run(part: str, folders: list[Path], threads: int, *, cold: bool) -> tuple[float, float, float]:
    """Run one part in a process; return its seconds, processor seconds and peak of anonymous memory in MiB."""
    if cold:
        let_go(folders)
    else:
        plain(folders)  # warm
    # -P: else benchmarks/statistics.py stands in for the standard library's module of that name
    command = [sys.executable, "-P", __file__, "--part", part, "--threads", str(threads)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([*command, *map(str, folders)], stdout=output)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, anonymous_mib(process.pid))
            time.sleep(0.005)
        if process.returncode:
            raise SystemExit(f"{part} failed")
        output.seek(0)
        seconds, spent = map(float, output.read().split())
        return seconds, spent, peak


ROWS = (
    # part, with the base, threads, cold
    ("plain read", False, 1, False),
    ("as float32", False, 1, False),
    ("one by one", False, 1, False),
    ("one by one", False, 2, False),
    ("one by one", True, 1, False),
    ("one by one", True, 2, False),
    ("largest eigenvalue", False, 1, False),
    ("tier 0", False, 1, False),
    ("tier 0", True, 1, False),
    ("plain read", False, 1, True),
    ("one by one", False, 2, True),
    ("tier 0", False, 1, True),
    ("tier 0", True, 1, True),
)


def measure(folder: Path, gib: float, rounds: int) -> None:
    """Make the checkpoints, run the rounds, print the table."""
    tuned, base = folder / "tuned", folder / "base"
    blocks = max(1, int((gib * 2**30 - 2 * VOCABULARY * HIDDEN) / block_bytes()))
    write(tuned, base, blocks)
    size = sum(path.stat().st_size for path in tuned.glob("*.safetensors"))
    print(f"{blocks} blocks, {size / 1e9:.2f} GB, and a base of as much; {os.cpu_count()} cores")
    best: dict[tuple, list[float]] = {row: [0.0, 0.0, float("inf"), 0.0] for row in ROWS}
    for _ in range(rounds):
        beside = {}
        for row in ROWS:
            part, with_base, threads, cold = row
            folders = [tuned, base] if with_base else [tuned]
            seconds, spent, peak = run(part, folders, threads, cold=cold)
            gigabytes = len(folders) * size / 1e9
            rate = gigabytes / seconds
            if part == "plain read":
                beside[cold] = rate
            held = best[row]
            held[:] = (
                max(held[0], rate), max(held[1], rate / beside[cold]),
                min(held[2], spent / gigabytes), max(held[3], peak),
            )  # fmt: skip
    print(f"{'':46}{'GB/s':>8}{'of a plain read':>18}{'CPU s/GB':>12}{'anonymous MiB':>16}")
    for row, (rate, ratio, spent, peak) in best.items():
        part, with_base, threads, cold = row
        told = [part, "against base" * with_base, "in two threads" * (threads > 1), "(cold)" * cold]
        name = " ".join(filter(None, told))
        print(f"{name:46}{rate:>8.2f}{ratio:>18.2f}{spent:>12.2f}{peak:>16.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=2.0, help="size of each checkpoint")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("folders", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(*timed(options.part, options.folders, options.threads))
        return
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), options.gib, options.rounds)


if __name__ == "__main__":
    main()
