"""Which precision a device is fast in, and the least in which values are compared or summed."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_float32", "computes_in_bfloat16"]


def at_least_float32(values: Tensor) -> Tensor:
    """The values as float32; float64, for checks of an evaluation or of equality, stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
