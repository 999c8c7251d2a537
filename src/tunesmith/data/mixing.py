"""Rows of a step mixed with others of it, targets alike: mixup and cutmix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tunesmith.seeds import fold


@dataclass(frozen=True)
class Mix:
    """How rows are mixed: `mixup` and `cutmix` are the two parameters of the symmetric Beta distribution that the share
    is drawn from; 0 = not in this way. With both a lot decides for each row."""

    mixup: float = 0.0
    cutmix: float = 0.0

    def drawn(self, rows: npt.NDArray[np.int64], seed: int, step: int) -> Mixture:
        """For each row of a step another one of it, and how they are mixed: pure in the seed and the step."""
        random = np.random.Generator(np.random.PCG64(fold(seed, "mix", step)))
        others, cut = rows[random.permutation(len(rows))], random.random(len(rows)) < 0.5
        cut = cut if self.mixup and self.cutmix else np.full(len(rows), bool(self.cutmix))
        blended, pasted = (
            random.beta(alpha or 1.0, alpha or 1.0, len(rows)).astype(np.float32) for alpha in (self.mixup, self.cutmix)
        )
        return Mixture(others, np.where(cut, pasted, blended), cut, random.random((len(rows), 2)))


@dataclass(frozen=True)
class Mixture:
    """What is mixed into each row of a step: the number of another row, the share that stays, whether a part of the
    picture is replaced (else all is blended), and the middle of that part, in shares of height and width."""

    others: npt.NDArray[np.int64]
    share: npt.NDArray[np.float32]
    cut: npt.NDArray[np.bool_]
    middle: npt.NDArray[np.float64]

    def take(self, places: npt.NDArray[np.int64]) -> Mixture:
        """Of some rows of the step."""
        return Mixture(self.others[places], self.share[places], self.cut[places], self.middle[places])

    def mixed(self, own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The tensors of both as one, and the share that stayed of each row, which for a part of a picture is that of
        its area. Numbers are blended; of codes, which cannot be, each is the row's own as often as its share says."""
        share = torch.from_numpy(self.share.copy())
        found = {}
        for name, values in own.items():
            if self.cut.any():
                boxes = self._boxes(*values.shape[-2:])
                cut = torch.from_numpy(self.cut)
                share = torch.where(cut, 1 - boxes.float().mean((1, 2)), share)
                keep = torch.where(cut[:, None, None], (~boxes).float(), share[:, None, None])[:, None]
                found[name] = keep * values + (1 - keep) * other[name]
                continue
            wide = share.view(-1, *[1] * (values.dim() - 1))
            if values.is_floating_point():
                found[name] = wide * values + (1 - wide) * other[name]
            else:
                # A lot for each code, from what was drawn for its row.
                seeds = (np.random.PCG64(int(lot * 2**53)) for lot in self.middle[:, 0])
                lots = np.stack([np.random.Generator(seed).random(values.shape[1:]) for seed in seeds])
                found[name] = torch.where(torch.from_numpy(lots).float() < wide, values, other[name])
        return found, share

    def _boxes(self, height: int, width: int) -> Tensor:
        """True in the part that is replaced, (rows, height, width); it may reach over the edge (Yun et al. 2019)."""
        sides = np.sqrt(1 - self.share)[:, None] * (height, width)
        start = np.rint(self.middle * (height, width) - sides / 2)[..., None]
        end = np.rint(self.middle * (height, width) + sides / 2)[..., None]
        rows, columns = np.arange(height), np.arange(width)
        inside = (start[:, 0] <= rows) & (rows < end[:, 0]), (start[:, 1] <= columns) & (columns < end[:, 1])
        return torch.from_numpy(inside[0][:, :, None] & inside[1][:, None, :])
