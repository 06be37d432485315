"""What training makes small. Two tables from a name to a function: ``LOSSES`` of logits, ``ENCODER_LOSSES`` of vectors.

A loss of logits takes logits and labels, float32 (groups, longest), and ``mask``, bool of the same shape, which is
False where a group has fewer products; it gives a mean, so that losses of any batch compare. Labels are from 0 to 1.
The pointwise ones (bce, mse) teach probabilities, the others an order within a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

F = TypeVar("F")

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class InBatch:
    """Queries and products of a batch, float32 (q, d) and (p, d), of unit length, every query against every product.

    ``labels``, float32 (q, p), are 0 where ``judged``, bool (q, p), is False: a product that is another query's.
    ``doubtful``, bool (q, p), says which of those may well be right for this query too; None where nobody knows.
    ``taught``, float32 (q, p), is what teachers think of every product, in standard deviations above what they think of
    all for that query; None where there are none.
    """

    queries: Tensor
    products: Tensor
    labels: Tensor
    judged: Tensor
    doubtful: Tensor | None = None
    taught: Tensor | None = None


#: Of a batch, with what cosines are multiplied by, and the label from which on a product is what a query asks for.
EncoderLoss = Callable[[InBatch, float, float], Tensor]

_CLIP = 0.01  # labels are kept this far from 0 and 1 where their logit is taken, which is 4.6 then
_LISTNET_SHARPNESS = 4.0  # Cao et al. take exp of grades from 0 to 4; labels end at 1
_LAMBDA_MU = 10.0  # Wang et al. 2018, section 5
_TAUGHT_SHARPNESS = 2.5  # of standard deviations: then as sharp as the stock encoder's cosines are at 20


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
    parts = _parts(name, LOSSES)

    def total(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return torch.stack([part(logits, labels, mask) for part in parts]).sum()

    return total


def mnr(batch: InBatch, sharpness: float, positive: float) -> Tensor:
    """Cross-entropy of a product that is asked for against all in the batch that are not; a mean over such products.

    Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply": multiple negatives ranking.
    What others of the batch are asked for counts as not asked for, unless it is doubtful; a query's other right
    products are left out.
    """
    logits = sharpness * batch.queries @ batch.products.T
    asked = batch.judged & (batch.labels >= positive)
    left_out = asked if batch.doubtful is None else asked | batch.doubtful
    others = logits.masked_fill(left_out, -torch.inf).logsumexp(dim=1, keepdim=True)
    return functional.softplus(others - logits)[asked].sum() / asked.sum().clamp(min=1)


def distil(batch: InBatch, sharpness: float, positive: float) -> Tensor:
    """Cross-entropy of which product of the batch is first, where teachers say how probable each is for every query.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", over the products of a batch as in Lin et al.
    2021, "In-Batch Negatives for Knowledge Distillation with Tightly-Coupled Teachers".
    """
    if batch.taught is None:
        raise ValueError("the loss distil needs training.teachers")
    wanted = torch.softmax(_TAUGHT_SHARPNESS * batch.taught, dim=1)
    given = torch.log_softmax(sharpness * batch.queries @ batch.products.T, dim=1)
    return -(wanted * given).sum(dim=1).mean()


def cosent(batch: InBatch, sharpness: float, positive: float) -> Tensor:
    """Over all judged pairs of the batch, those of a higher label should have the higher cosine.

    log(1 + Σ exp(sharpness · (cos_j − cos_i))) over label_i > label_j: Su 2022, "CoSENT", kexue.fm/archives/8847.
    """
    cosines = (batch.queries @ batch.products.T)[batch.judged]
    return _ordered(sharpness * cosines, batch.labels[batch.judged])


def angle(batch: InBatch, sharpness: float, positive: float) -> Tensor:
    """As CoSENT, by the angle between vectors read as complex numbers, which does not flatten out as cosines do.

    Li and Li 2023, "AnglE-optimized Text Embeddings", section 3.3.
    """
    from sentence_transformers.util import pairwise_angle_sim

    left, right = batch.judged.nonzero(as_tuple=True)
    found = pairwise_angle_sim(batch.queries[left], batch.products[right])
    return _ordered(sharpness * found, batch.labels[batch.judged])


def _within(loss: Loss, batch: InBatch, sharpness: float, positive: float) -> Tensor:
    """A loss of logits, which cosines stand for, over each query's own products."""
    return loss(sharpness * batch.queries @ batch.products.T, batch.labels, batch.judged)


#: The pointwise losses are not among them: a cosine is no logit of a probability.
ENCODER_LOSSES: dict[str, EncoderLoss] = {
    "mnr": mnr,
    "cosent": cosent,
    "angle": angle,
    "distil": distil,
    **{name: partial(_within, LOSSES[name]) for name in ("margin-mse", "ranknet", "listnet", "lambdaloss")},
}


def encoder_loss(name: str) -> EncoderLoss:
    """As ``loss_named``, of ``ENCODER_LOSSES``."""
    parts = _parts(name, ENCODER_LOSSES)

    def total(batch: InBatch, sharpness: float, positive: float) -> Tensor:
        return torch.stack([part(batch, sharpness, positive) for part in parts]).sum()

    return total


def _parts(name: str, losses: Mapping[str, F]) -> list[F]:
    parts = name.split("+")
    if any(part not in losses for part in parts):
        raise ValueError(f"loss is {name!r}; it must be of {', '.join(losses)}, or several of them joined by +")
    return [losses[part] for part in parts]


def _ordered(values: Tensor, labels: Tensor) -> Tensor:
    worse = values[None, :] - values[:, None]
    wrong = worse[labels[:, None] > labels[None, :]]
    return torch.cat([wrong.new_zeros(1), wrong]).logsumexp(dim=0)


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
