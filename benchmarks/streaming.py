"""Growing a checkpoint on disk against copying the result: time, and peak anonymous memory of the growing process.

    python -m benchmarks.streaming [--repeats 3] [--scratch FOLDER] [--results FOLDER]

The source is a random Llama-shaped checkpoint of a little over 1 GB in bfloat16, grown to twice its width: noise-free, and
with noise at 10 dB. The rivals are `cp --reflink=never` of the grown folder, and what the papers' scripts do: load the
source, make every grown tensor in memory by eager PyTorch, save them. Every run ends with its data on the disk (fsync),
starts with nothing left to be written, and finds what it reads in the page cache. Runs are interleaved. Each growth is a
process of its own: the time is that of `grow_checkpoint` (without verification, and once with that of slices, which is the
default for large models), or of the script, imports apart; anonymous memory (RssAnon) is sampled every millisecond, from
before the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 8,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
#: Name of a run -> ours, ours with slices verified, or the script; and its noise.
GROWTHS = {
    "noise-free": ("ours", None),
    "10 dB": ("ours", 10.0),
    "10 dB, verified": ("verified", 10.0),
    "script, noise-free": ("script", None),
    "script, 10 dB": ("script", 10.0),
}


def write_source(folder: Path) -> int:
    """A random checkpoint of CONFIG; returns the bytes of its weights."""
    import torch
    from safetensors.torch import save_file

    hidden, ffn, head = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
    kv = CONFIG["num_key_value_heads"] * head
    shapes = {"model.embed_tokens.weight": (CONFIG["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for layer in range(CONFIG["num_hidden_layers"]):
        parts = {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (ffn, hidden),
            "mlp.up_proj": (ffn, hidden),
            "mlp.down_proj": (hidden, ffn),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }
        shapes |= {f"model.layers.{layer}.{part}.weight": shape for part, shape in parts.items()}
    torch.manual_seed(0)
    weights = {name: torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02) for name, shape in shapes.items()}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return sum(weight.nbytes for weight in weights.values())


def anonymous_memory() -> int:
    """Bytes of this process's resident anonymous memory."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10


def script(src: Path, dst: Path, snr_db: float | None) -> None:
    """The papers' way: source and target whole in memory, every tensor by eager PyTorch (the head of CONFIG is tied)."""
    from safetensors.torch import load_file, save_file

    from benchmarks import rivals

    def grown(name: str, weight: torch.Tensor) -> torch.Tensor:
        if name == "model.norm.weight":
            return weight.repeat(2) / 2
        if weight.ndim == 1:
            return weight.repeat(2)
        if "layers" not in name:
            return weight.repeat(1, 2)
        return rivals.tile(weight, 2, 2) if snr_db is None else rivals.paper_tile_snr(weight, 2, 2, snr_db)

    source = load_file(src / "model.safetensors")
    dst.mkdir()
    save_file({name: grown(name, weight) for name, weight in source.items()}, dst / "model.safetensors")
    flush(dst)


def flush(folder: Path) -> None:
    """Wait until everything in a folder is on the disk."""
    for path in [*folder.iterdir(), folder, folder.parent]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def grow(src: str, dst: str, run: str) -> dict[str, float]:
    """One growth, in this process: seconds and bytes."""
    way, snr_db = GROWTHS[run]
    peak, over = anonymous_memory(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.001):
            peak = max(peak, anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        from growkernels.api import grow_checkpoint

        imported = anonymous_memory()
        start = time.perf_counter()
        if way == "script":
            script(Path(src), Path(dst), snr_db)
        else:
            grow_checkpoint(
                src,
                dst,
                width=2,
                noise_snr_db=snr_db,
                no_verify=way == "ours",
                verify_logits=False if way == "verified" else None,
            )
        seconds = time.perf_counter() - start
    finally:
        over.set()
        watcher.join()
    return {
        "seconds": seconds,
        "bytes": sum(path.stat().st_size for path in Path(dst).iterdir()),
        "peak_anonymous_bytes": peak,
        "anonymous_bytes_after_imports": imported,
    }


def run_growth(src: Path, dst: Path, run: str) -> dict[str, float]:
    """One growth, in a process of its own; `command_seconds` is that whole process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.streaming", "--grow", str(src), str(dst), run]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {**json.loads(done.stdout), "command_seconds": time.perf_counter() - start}


def run_copy(src: Path, dst: Path) -> dict[str, float]:
    """`cp` of a folder, and fsync of all that it made."""
    start = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", "-r", str(src), str(dst)], check=True)
    flush(dst)
    return {"seconds": time.perf_counter() - start, "bytes": sum(path.stat().st_size for path in dst.iterdir())}


def read(folder: Path) -> None:
    """Bring a folder's files into the page cache, from where the machine may have dropped them."""
    buffer = bytearray(8 << 20)
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def measure(scratch: Path, repeats: int) -> dict[str, Any]:
    """All runs, interleaved; everything written is removed."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ("cp", *GROWTHS)}
    with tempfile.TemporaryDirectory(dir=scratch, prefix="growkernels-streaming-") as folder:
        src, kept, dst = (Path(folder) / name for name in ("source", "kept", "new"))
        source_bytes = write_source(src)
        run_growth(src, kept, "noise-free")
        names = list(runs)
        for turn in range(repeats):
            # Another one first each time: what a run leaves behind in caches and on the disk falls on all alike.
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                done = runs[name]
                read(kept if name == "cp" else src)
                os.sync()
                done.append(run_copy(kept, dst) if name == "cp" else run_growth(src, dst, name))
                shutil.rmtree(dst)
                print(f"{name}: {done[-1]['seconds']:.2f} s", file=sys.stderr)
    return {"source_bytes": source_bytes, "runs": runs}


def machine() -> str:
    """A short name of this machine: its processor and cores."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    name = re.sub(r"\(.*?\)|\b(CPU|Processor)\b|@.*|\d+-Core", " ", model[1] if model else platform.machine())
    return f"{'-'.join(re.findall(r'[a-z0-9]+', name.lower()))}-{os.cpu_count()}core"


def summarize(result: dict[str, Any]) -> list[str]:
    """A Markdown table: medians, spread, the ratio to `cp`, memory."""
    medians = {name: statistics.median(run["seconds"] for run in runs) for name, runs in result["runs"].items()}
    lines = [
        "| run | median s | min to max s | GB/s written | against cp | peak anonymous MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in result["runs"].items():
        seconds = [run["seconds"] for run in runs]
        peak = max(run.get("peak_anonymous_bytes", 0) for run in runs)
        lines.append(
            f"| {name} | {medians[name]:.2f} | {min(seconds):.2f} to {max(seconds):.2f} | "
            f"{runs[0]['bytes'] / medians[name] / 1e9:.2f} | {medians[name] / medians['cp']:.2f} | "
            f"{f'{peak / 1e6:.0f}' if peak else ''} |"
        )
    return lines


def main() -> None:
    """Measure, print the table, keep the raw figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=Path.cwd(), help="a folder on the disk to measure, 12 GB free")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / machine())
    parser.add_argument("--grow", nargs=3, metavar=("SRC", "DST", "RUN"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.grow:
        print(json.dumps(grow(*arguments.grow)))
        return
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], check=True, capture_output=True, text=True)
    result = {
        "machine": machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers", "safetensors")},
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": os.getloadavg(),
        "config": CONFIG,
        **measure(arguments.scratch, arguments.repeats),
        "load_after": os.getloadavg(),
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "streaming.json").write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(summarize(result)))


if __name__ == "__main__":
    main()
