"""A family from a package of its own: name `FAMILY` by an entry point, and checkpoints of the type grow.

[project.entry-points."growkernels.layouts"]
my_decoder = "my_package:FAMILY"
"""

from growkernels.layouts import Family

FAMILY = Family("phi3", outputs={"self_attn.qkv_proj": (("heads", 1), ("kv_heads", 1), ("kv_heads", 1))})
