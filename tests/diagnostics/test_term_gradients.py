"""Term gradients: known norms and cosines of quadratics, terms without a gradient, weights, tiny and missing ones."""

import numpy as np
import pytest
import torch

from qcore.diagnostics import term_gradients


def quadratics(*directions: list[float]) -> tuple[torch.nn.Parameter, dict[str, torch.Tensor]]:
    """Parts ½|x − d|² at x = 0, so that the gradient is −d."""
    x = torch.nn.Parameter(torch.zeros(len(directions[0])))
    names = ["ce", "diversity", "dominance", "z_loss"]
    return x, {name: 0.5 * (x - torch.tensor(d)).square().sum() for name, d in zip(names, directions, strict=False)}


def test_norms_and_cosines_of_quadratics():
    x, parts = quadratics([3.0, 4.0], [-6.0, -8.0], [-4.0, 3.0])
    gradients = term_gradients(parts, [x], {"ce": 1.0, "diversity": 0.5, "dominance": -2.0})
    np.testing.assert_allclose(gradients.norm_K, [5, 10, 5], rtol=1e-6)
    np.testing.assert_allclose(gradients.cosine_KK, [[1, -1, 0], [-1, 1, 0], [0, 0, 1]], atol=1e-6)
    assert gradients.scalars() == {
        "grad/norm/ce": pytest.approx(5),
        "grad/norm/diversity": pytest.approx(10),
        "grad/norm/dominance": pytest.approx(5),
        "grad/ratio/ce": pytest.approx(1),
        "grad/ratio/diversity": pytest.approx(1),
        "grad/ratio/dominance": pytest.approx(2),
        "grad/cos/ce": pytest.approx(1),
        "grad/cos/diversity": pytest.approx(-1),
        "grad/cos/dominance": pytest.approx(0, abs=1e-6),
    }


def test_several_tensors_count_as_one_vector():
    a, b = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(3))
    parts = {"ce": 2 * a.sum() + b.sum(), "other": a.sum()}
    gradients = term_gradients(parts, [a, b], {"ce": 1.0, "other": 1.0})
    np.testing.assert_allclose(gradients.norm_K, [(4 * 4 + 3) ** 0.5, 2], rtol=1e-6)
    assert gradients.cosine_KK[0, 1] == pytest.approx(8 / (19**0.5 * 2))


def test_a_term_from_counts_has_no_gradient():
    """Fault G1: argmax cuts the graph; a saturated hinge keeps it and still pulls nowhere (G2)."""
    logits = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    counted = torch.bincount(logits.argmax(-1), minlength=2).float()
    parts = {
        "ce": logits.sum(),
        "diversity": counted.var(),
        "entropy_floor": (logits.abs().sum() + 1).clamp(max=0.5),
        "elsewhere": torch.nn.Parameter(torch.ones(())) * 2,
    }
    gradients = term_gradients(parts, [logits], dict.fromkeys(parts, 1.0))
    np.testing.assert_array_equal(gradients.norm_K[1:], 0)
    assert gradients.attached_K.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(gradients.cosine_KK[1:], 0)
    assert gradients.cosine_KK[0, 0] == pytest.approx(1)
    assert gradients.scalars()["grad/cos/diversity"] == 0


def test_a_tiny_gradient_is_not_none():
    x, parts = quadratics([3.0, 4.0], [1.0, 0.0])
    gradients = term_gradients({"ce": parts["ce"], "small": parts["diversity"] * 1e-30}, [x], {"ce": 1, "small": 1})
    assert gradients.norm_K[1] == pytest.approx(1e-30, rel=1e-4)
    assert gradients.cosine_KK[0, 1] == pytest.approx(0.6)


def test_ratios_need_a_main_loss_with_a_gradient():
    x, parts = quadratics([3.0, 4.0], [1.0, 0.0])
    without = term_gradients({"diversity": parts["diversity"]}, [x], {"diversity": 1.0})
    assert set(without.scalars()) == {"grad/norm/diversity"}
    flat = term_gradients({"ce": x.sum() * 0, "diversity": parts["diversity"]}, [x], {"ce": 1.0, "diversity": 1.0})
    assert set(flat.scalars()) == {"grad/norm/ce", "grad/norm/diversity"}


def test_the_graph_and_the_gradients_of_training_are_left_alone():
    x, parts = quadratics([3.0, 4.0], [1.0, 0.0])
    with torch.no_grad():
        term_gradients(parts, [x], {"ce": 1.0, "diversity": 1.0})
    assert x.grad is None
    sum(parts.values()).backward()
    np.testing.assert_allclose(x.grad, [-4, -4])


def test_arrays_point_into_the_run_s_list_of_terms():
    x, parts = quadratics([3.0, 4.0], [1.0, 0.0])
    gradients = term_gradients(parts, [x], {"ce": 1.0, "diversity": 1.0})
    arrays = gradients.arrays(["eos", "diversity", "ce"])
    assert arrays["terms"].tolist() == [2, 1]
    assert {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == {
        "norm": ((2,), "float32"),
        "cosine": ((2, 2), "float32"),
        "terms": ((2,), "int32"),
    }
    assert gradients.arrays()["terms"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="diversity are not among the term names eos, ce"):
        gradients.arrays(["eos", "ce"])


def test_no_part_is_no_row():
    gradients = term_gradients({}, [torch.nn.Parameter(torch.ones(2))], {})
    assert gradients.scalars() == {}
    assert gradients.arrays()["cosine"].shape == (0, 0)


def test_mistakes_are_named():
    x, parts = quadratics([3.0, 4.0])
    with pytest.raises(ValueError, match="wrt holds no tensor"):
        term_gradients(parts, [torch.ones(2)], {"ce": 1.0})
    with pytest.raises(ValueError, match="'ce' has no weight; weights were given for eos"):
        term_gradients(parts, [x], {"eos": 1.0})
    with pytest.raises(ValueError, match=r"'ce' has shape \(2,\)"):
        term_gradients({"ce": x * 2}, [x], {"ce": 1.0})
