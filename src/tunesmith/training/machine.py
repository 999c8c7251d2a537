"""The machine: devices, precision and ranks; the only file that knows them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tunesmith.errors import MachineError
from tunesmith.training.dropout import FastDropout

BUCKET_BYTES = 25_000_000
"""Gradients travel between ranks in flat buffers of about this size (as in torch's DDP)."""


@dataclass(frozen=True)
class Machine:
    """Where this process computes, and its place among the processes of the run (`rank` of `world`)."""

    device: torch.device
    precision: str
    rank: int = 0
    world: int = 1
    joined: bool = False
    """Whether it joined the ranks itself: who did leaves them when it closes."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def tokens(self) -> int:
        """Padded tokens of one forward pass without gradients: what keeps a GPU busy, or a CPU in its caches."""
        return 2048 if self.device.type == "cpu" else 65_536

    def place(self, module: nn.Module) -> nn.Module:
        return module.to(self.device)

    def put(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors on the device, copied without waiting where that is possible."""
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()}

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 for matrix products when the precision says so."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def dropout(self) -> contextlib.AbstractContextManager[Any]:
        """Faster dropout masks, where it is worth it: on a CPU in fp32."""
        return FastDropout() if self.device.type == "cpu" else contextlib.nullcontext()

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a scalar over all ranks."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all ranks, in flat buckets; a rank without rows in this step adds zeros."""
        if self.world == 1:
            return
        bucket: list[Tensor] = []
        size = 0
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            size += parameter.grad.nbytes
            if size >= BUCKET_BYTES:
                _sum_bucket(bucket)
                bucket, size = [], 0
        _sum_bucket(bucket)

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, in rank order, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def agree(self, value: Any) -> Any:
        """The first rank's value, on every rank: for whatever depends on a clock, a disk or a signal."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def most(self, value: int) -> int:
        """The largest value of any rank."""
        if self.world == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)

    def close(self) -> None:
        if self.joined and dist.is_initialized():
            dist.destroy_process_group()


@torch.no_grad()
def make_equal(tensors: list[Tensor], machine: Machine) -> None:
    """Replace each tensor by its mean over all ranks."""
    if machine.world > 1 and tensors:
        _sum_bucket(tensors)
        torch._foreach_div_(tensors, machine.world)


def is_first() -> bool:
    """Whether this process is the one that writes and speaks, where no Machine has been started yet."""
    return os.environ.get("RANK", "0") == "0"


def find_device(asked: str) -> str:
    """The device to use: the one asked for, else CUDA, else Apple's GPU, else the CPU. MachineError if it is absent."""
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if asked == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    try:
        kind = torch.device(asked).type
    except RuntimeError:
        raise MachineError(
            f'there is no device "{asked}"', where="--device", remedy="cpu, cuda, cuda:1 or mps"
        ) from None
    if (kind == "cuda" and not cuda) or (kind == "mps" and not mps) or kind not in ("cpu", "cuda", "mps"):
        raise MachineError(f'this machine has no device "{asked}"', where="--device", remedy="leave --device out")
    return asked


def fast_precision(device: str) -> str:
    """bf16 where the processor multiplies it in hardware: CUDA from Ampere on, CPUs with AMX or AVX512-BF16."""
    kind = torch.device(device).type
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if kind == "cpu":
        cpu: Any = torch.cpu
        return "bf16" if cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported() else "fp32"
    return "fp32"


def start(device: str = "auto", precision: str = "auto", *, deterministic: bool = False) -> Machine:
    """The Machine of this process; joins the other ranks when torchrun started it."""
    device = find_device(device)
    precision = fast_precision(device) if precision == "auto" else precision
    if device == "cpu":
        _keep_memory()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Machine(torch.device(device), precision)
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    joins = not dist.is_initialized()
    if joins:
        backend = "nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=10))
    return Machine(torch.device(device), precision, rank, world, joined=joins)


def _keep_memory() -> None:
    """Tell glibc to keep freed memory: else each large tensor is mapped, and its pages faulted in, at every step anew
    (16,000 page faults a step of MiniLM against 3,300: bench/LOG.md). Elsewhere nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 2**31 - 1)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def _sum_bucket(bucket: list[Tensor]) -> None:
    if not bucket:
        return
    flat = torch._utils._flatten_dense_tensors(bucket)
    dist.all_reduce(flat)
    for tensor, summed in zip(bucket, torch._utils._unflatten_dense_tensors(flat, bucket), strict=True):
        tensor.copy_(summed)
