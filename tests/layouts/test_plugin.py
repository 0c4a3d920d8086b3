"""The example of a family plug-in, installed beside the package as a distribution with an entry point."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json
from growkernels.layouts import discover, families
from tests.layouts.support import class_shapes, specs, stored_config
del families.FAMILIES["phi3"]
sizes = dict(hidden_size=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24, num_hidden_layers=2)
config = stored_config("phi3", "Phi3ForCausalLM", vocab_size=11, pad_token_id=0, **sizes)
layout = discover(config, specs(class_shapes(config)))
print(layout.tensors["model.layers.0.self_attn.qkv_proj.weight"].axes[0])
"""


def test_the_example_is_found_by_its_entry_point(tmp_path):
    shutil.copy(ROOT / "examples" / "plugins" / "family.py", tmp_path / "my_package.py")
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[growkernels.layouts]\nmy_decoder = my_package:FAMILY\n")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "heads | kv_heads | kv_heads"
    lines = (ROOT / "examples" / "plugins" / "family.py").read_text().splitlines()
    assert len(lines) < 15
