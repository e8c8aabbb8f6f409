"""Finds and damages tensors in the files of a region store, by the safetensors format alone."""

import json
from pathlib import Path


def data_offsets(path: Path, tensor: str) -> tuple[int, int]:
    """Return the first byte of a tensor in its file, and the byte after its last one."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8 : 8 + length])[tensor]["data_offsets"]
    return 8 + length + begin, 8 + length + end


def flip(path: Path, tensor: str, *, place: int = -1, bit: int = 0) -> None:
    """Flip a bit of a byte of a tensor, counted from its start, or from its end if negative."""
    begin, end = data_offsets(path, tensor)
    content = bytearray(path.read_bytes())
    content[(end if place < 0 else begin) + place] ^= 1 << bit
    path.write_bytes(content)


def first_shard(folder: Path) -> Path:
    """Return the path of the first shard of a store."""
    return min(folder.glob("shard-*.safetensors"))
