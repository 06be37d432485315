"""Every loss against a value worked out by hand, and against what its gradient must do."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses import LOSSES, loss_named

# One group of two products and one of one, so that masks count: 9 stands where nothing may be read.
LOGITS = torch.tensor([[2.0, 0.5], [-1.0, 9.0]])
LABELS = torch.tensor([[0.75, 0.25], [0.0, 9.0]])
MASK = torch.tensor([[True, True], [True, False]])


def _entropy(logit: float, label: float) -> float:
    return math.log(1 + math.exp(logit)) - label * logit


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _by_hand() -> dict[str, float]:
    softplus = math.log(1 + math.exp(-1.5))  # of the one ordered pair's margin, 2 - 0.5
    first = math.exp(4 * 0.75) / (math.exp(4 * 0.75) + math.exp(4 * 0.25))
    given = math.exp(2) / (math.exp(2) + math.exp(0.5))
    listnet = -(first * math.log(given) + (1 - first) * math.log(1 - given))
    best = 0.75 + 0.25 / math.log2(3)
    swap = 1 - 1 / math.log2(3)  # for ranks 1 and 2, both rho and delta
    return {
        "bce": (_entropy(2, 0.75) + _entropy(0.5, 0.25) + _entropy(-1, 0)) / 3,
        "mse": ((_sigmoid(2) - 0.75) ** 2 + (_sigmoid(0.5) - 0.25) ** 2 + _sigmoid(-1) ** 2) / 3,
        "margin-mse": (1.5 - 2 * math.log(3)) ** 2,  # logit(0.75) = ln 3
        "ranknet": softplus,
        "listnet": listnet / 2,  # a group of one costs nothing, and counts
        "lambdaloss": softplus / math.log(2) * (swap + 10 * swap) * 0.5 / best,
    }


@pytest.mark.parametrize("name", LOSSES)
def test_the_value_is_the_one_worked_out_by_hand(name: str) -> None:
    assert loss_named(name)(LOGITS, LABELS, MASK).item() == pytest.approx(_by_hand()[name], rel=1e-5)


def test_names_joined_by_plus_add_up() -> None:
    by_hand = _by_hand()
    assert loss_named("bce+ranknet")(LOGITS, LABELS, MASK).item() == pytest.approx(
        by_hand["bce"] + by_hand["ranknet"], rel=1e-5
    )


def test_an_unknown_loss_is_explained() -> None:
    with pytest.raises(ValueError, match=r"loss is 'bce\+hinge'; it must be of bce, mse, margin-mse"):
        loss_named("bce+hinge")


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25, deadline=None)
@given(
    logits=st.permutations([-2.0, -0.7, 0.1, 1.1, 2.4]),  # apart, for LambdaLoss jumps where ranks change
    labels=st.permutations([0.0, 0.15, 0.4, 0.7, 1.0]),
)
def test_a_step_against_the_gradient_makes_every_loss_smaller(
    name: str, logits: list[float], labels: list[float]
) -> None:
    """And leaves what is masked alone."""
    x = torch.tensor([[*logits, 7.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[*labels, 0.5]], dtype=torch.float64)
    mask = torch.tensor([[True] * 5 + [False]])
    before = LOSSES[name](x, y, mask)
    (gradient,) = torch.autograd.grad(before, x)
    assert gradient[0, 5] == 0
    with torch.no_grad():
        after = LOSSES[name](x - 1e-5 * gradient, y, mask)
    assert after <= before
    if name not in ("bce", "mse", "margin-mse"):  # the others know no right logit, only a right order
        right = torch.tensor([[4 * label for label in labels] + [0.0]], dtype=torch.float64)
        assert LOSSES[name](right, y, mask) < LOSSES[name](-right, y, mask)


@pytest.mark.parametrize("name", ["ranknet", "margin-mse", "lambdaloss"])
def test_groups_without_an_order_teach_nothing(name: str) -> None:
    logits = torch.tensor([[1.0, 2.0]], requires_grad=True)
    loss = LOSSES[name](logits, torch.tensor([[0.4, 0.4]]), torch.ones(1, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
