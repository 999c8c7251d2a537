"""The contrastive objective: pooled features of rows of one class grow alike, those of other classes apart.

For few rows of each class: n rows make about n^2 / 2 pairs (SetFit: Tunstall et al. 2022). Row i of a batch of 2n rows
is paired with row n + i. A sum over pairs adds up over any cut of a batch; the supervised contrastive loss of Khosla
et al. 2020 compares each row with the whole batch and would not, so it is not offered."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.data.batch import MAIN, Batch
from tunesmith.errors import RecipeError
from tunesmith.models.tunable import Tunable
from tunesmith.objectives.objective import Loss, Objective
from tunesmith.tasks.task import Target, Task

READS = "pairs"


def objective(
    task: Task,
    target: Target,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    margin: float | None = None,
) -> Objective:
    """The squared difference between the cosine of a pair's features and 1 (same class) or 0 (other classes): the loss
    of SetFit. With `margin` m the loss of Hadsell et al. 2006 on the distance d = 1 - cosine: d^2 / 2 for the same
    class, max(0, m - d)^2 / 2 for others. The count is that of the pairs; RecipeError unless rows have one label."""
    if task.name != "classification":
        what = f"contrastive compares rows by their one label, and this is a {task.name}"
        raise RecipeError(what, where="objective", remedy="use objective = supervised")
    if margin is not None and not 0 < margin <= 2:
        raise RecipeError(f"margin = {margin}: distances lie between 0 and 2", where="objective", remedy="try 0.5")

    def contrastive(net: nn.Module, batch: Batch) -> Loss:
        assert isinstance(net, Tunable)
        num_pairs = len(batch.target) // 2
        features = net.features(batch.inputs[MAIN]).float()
        first, second = features[:num_pairs], features[num_pairs : 2 * num_pairs]
        same = batch.target[:num_pairs] == batch.target[num_pairs : 2 * num_pairs]
        cosine = F.cosine_similarity(first, second)
        if margin is None:
            each = (cosine - same.float()) ** 2
        else:
            distance = 1 - cosine
            each = (distance.where(same, (margin - distance).clamp(min=0)) ** 2) / 2
        weight = batch.weight[:num_pairs]
        return Loss((each * weight).sum(), weight.sum())

    return contrastive
