"""What training makes small. One table, ``LOSSES``, from a name to a function.

Each takes logits and labels, float32 (groups, longest), and ``mask``, bool of the same shape, which is False where a
group has fewer products; it gives a mean, so that losses of any batch compare. Labels are from 0 to 1. The pointwise
ones (bce, mse) teach probabilities, the others an order within a query.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

_CLIP = 0.01  # labels are kept this far from 0 and 1 where their logit is taken, which is 4.6 then
_LISTNET_SHARPNESS = 4.0  # Cao et al. take exp of grades from 0 to 4; labels end at 1
_LAMBDA_MU = 10.0  # Wang et al. 2018, section 5


def bce(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy with labels as probabilities; a mean over pairs."""
    return functional.binary_cross_entropy_with_logits(logits[mask], labels[mask])


def mse(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Squared error of the probability; a mean over pairs."""
    return functional.mse_loss(torch.sigmoid(logits[mask]), labels[mask])


def margin_mse(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Squared error of the margin between two products of a query, where the label's logit says how wide it should be.

    Hofstätter et al. 2020, "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation":
    with labels that are a teacher's probabilities, their logits are the teacher's scores.
    """
    error = _differences(logits) - _differences(torch.logit(labels, _CLIP))
    return _mean_over_groups(error.square(), _preferred(labels, mask))


def ranknet(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of which of two is better. Burges et al. 2005, "Learning to Rank Using Gradient Descent"."""
    return _mean_over_groups(functional.softplus(-_differences(logits)), _preferred(labels, mask))


def listnet(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of which product is first. Cao et al. 2007, "Learning to Rank: From Pairwise to Listwise"."""
    wanted = torch.softmax((_LISTNET_SHARPNESS * labels).masked_fill(~mask, -torch.inf), dim=1)
    given = torch.log_softmax(logits.masked_fill(~mask, -torch.inf), dim=1).masked_fill(~mask, 0)
    return -(wanted * given).sum(dim=1).mean()


def lambdaloss(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """NDCG-Loss2++, a bound on 1 − nDCG. Wang et al. 2018, "The LambdaLoss Framework for Ranking Metric Optimization".

    A pair's cross-entropy, in bits, weighs (ρ + μ·δ)·|G_i − G_j|, where G is the label over the best DCG, ρ what
    swapping the two would change, |1/D_i − 1/D_j|, and δ the same by how far apart they are. D is log2(1 + rank), and
    ranks are those the logits give now. The gain is linear, as in the nDCG that runs are judged by.
    """
    order = logits.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1).to(logits.dtype) + 1
    best = labels.masked_fill(~mask, 0).sort(dim=1, descending=True).values
    places = torch.arange(2, labels.shape[1] + 2, device=labels.device, dtype=labels.dtype)
    gains = labels / (best / places.log2()).sum(dim=1, keepdim=True).clamp(min=1e-9)
    apart = _differences(ranks).abs().clamp(min=1)
    rho = _differences(1 / (1 + ranks).log2()).abs()
    delta = 1 / (1 + apart).log2() - 1 / (2 + apart).log2()
    weights = (rho + _LAMBDA_MU * delta) * _differences(gains).abs() * _preferred(labels, mask)
    bits = functional.softplus(-_differences(logits)) / torch.log(torch.tensor(2.0))
    used = weights.flatten(1).any(dim=1).sum().clamp(min=1)
    return (bits * weights).sum() / used


LOSSES: dict[str, Loss] = {
    "bce": bce,
    "mse": mse,
    "margin-mse": margin_mse,
    "ranknet": ranknet,
    "listnet": listnet,
    "lambdaloss": lambdaloss,
}


def loss_named(name: str) -> Loss:
    """The loss of that name, or the sum of several joined by +. Raises ValueError naming the choices."""
    parts = name.split("+")
    unknown = [part for part in parts if part not in LOSSES]
    if unknown:
        raise ValueError(f"loss is {name!r}; it must be of {', '.join(LOSSES)}, or several of them joined by +")

    def total(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return torch.stack([LOSSES[part](logits, labels, mask) for part in parts]).sum()

    return total


def _differences(values: Tensor) -> Tensor:
    """(groups, n) to (groups, n, n): value i less value j."""
    return values[:, :, None] - values[:, None, :]


def _preferred(labels: Tensor, mask: Tensor) -> Tensor:
    """float32 (groups, n, n): 1 where the label of i is above that of j."""
    both = mask[:, :, None] & mask[:, None, :]
    return ((_differences(labels) > 0) & both).to(labels.dtype)


def _mean_over_groups(values: Tensor, weights: Tensor) -> Tensor:
    """The mean over groups that have any weight of their weighted means."""
    totals = weights.sum(dim=(1, 2))
    means = (values * weights).sum(dim=(1, 2)) / totals.clamp(min=1e-9)
    return means.sum() / (totals > 0).sum().clamp(min=1)
