"""Executors: plans carried out, from sources of tensors through one loop into sinks."""

from growkernels.executors.checkpoint import execute
from growkernels.executors.device import open_device
from growkernels.executors.files.manifest import Manifest, read_manifest, write_manifest
from growkernels.executors.files.shards import Shard, parse_size, plan_shards
from growkernels.executors.files.staging import check_destination, staged
from growkernels.executors.measure import check_duplicates
from growkernels.executors.sources.checkpoint import Source, open_source

__all__ = [
    "Manifest",
    "Shard",
    "Source",
    "check_destination",
    "check_duplicates",
    "execute",
    "open_device",
    "open_source",
    "parse_size",
    "plan_shards",
    "read_manifest",
    "staged",
    "write_manifest",
]
