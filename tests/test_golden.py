"""Numbers that must not move: if one does, raise RESULTS_VERSION in lra/results/record.py and write the new ones
in tests/naive/<name>.py.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from naive import load

import attention_zoo
import tasks
from lra.experiments.build import make_model
from lra.experiments.plan import Request, plan
from lra.results.record import RESULTS_VERSION

SPEC = tasks.Spec(vocab=16, classes=10, length=60)


@torch.no_grad()
@pytest.mark.parametrize("name", attention_zoo.names())
def test_first_loss(name):
    """Cross-entropy of the untrained quick model, seed 0, on 8 rows of fixed ids, a third of them padding."""
    assert RESULTS_VERSION == 3
    cell = plan(Request(attentions=[name], tasks=["listops"], seeds=[0], protocol="quick"))[0]
    ids = torch.arange(8 * 60).reshape(8, 60) * 7919 % 15 + 1
    keep = torch.arange(60) < torch.arange(25, 65, 5)[:, None]
    logits = make_model(cell, SPEC).eval()(torch.where(keep, ids, 0), keep)
    loss = float(F.cross_entropy(logits, torch.arange(8)))
    assert math.isclose(loss, load(name).loss, abs_tol=1e-5), loss
