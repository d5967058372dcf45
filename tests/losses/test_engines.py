"""The compiled engines against PyTorch's operations, and these against every path written out, in value and gradient."""
from __future__ import annotations

import importlib.util
import math
import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported: its code then runs on the CPU

from asr.losses.engines import choose_engine, load_engine
from asr.losses.lattice import TOPOLOGIES, forward_backward, tdt_forward_backward
from asr.losses.pruned_tdt import PrunedTdt
from asr.losses.simple_joiner import pruning_window
from tests.losses.batches import make_batch
from tests.losses.brute_force import log_prob, tdt_log_prob

DURATIONS = [(0, 1, 2, 3, 4), (1, 2), (0, 2), (2, 3)]
LENS = [([4, 1, 3], [3, 2, 0]), ([2, 5], [4, 1]), ([1], [0])]


def device_of(engine: str) -> str:
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    return "cuda" if engine == "triton" and torch.cuda.is_available() else "cpu"


def random_lattice(frame_lens, token_lens, durations=0, rows=None, dtype=torch.float64, seed=0):
    """Arcs with NaN as padding, lengths, and windows of ``rows`` rows, or none."""
    torch.manual_seed(seed)
    frames, width = max(frame_lens), max(token_lens) + 1
    lens = torch.tensor(frame_lens), torch.tensor(token_lens)
    first = None
    if rows is not None and rows < width:
        first = pruning_window(*torch.rand(2, len(frame_lens), frames, width), *lens, rows, step=rows - 1)
        width = rows
    first_row = torch.zeros(len(frame_lens), frames, dtype=torch.int64) if first is None else first
    left = lens[1].view(-1, 1, 1) - first_row.unsqueeze(2) - torch.arange(width)
    padded = (torch.arange(frames) >= lens[0].unsqueeze(1)).unsqueeze(2) | (left < 0)
    arcs = [torch.randn(padded.shape, dtype=dtype), torch.randn(padded.shape, dtype=dtype)]
    if durations:
        arcs.append(torch.randn(durations, *padded.shape, dtype=dtype))
    arcs = [arc.masked_fill(padded if kind != 1 else padded | (left == 0), float("nan")).requires_grad_() for kind, arc in enumerate(arcs)]
    return arcs, lens, first


def solved(engine, arcs, lens, first, topology=None, durations=None):
    device = device_of(engine)
    moved, lens = [arc.to(device) for arc in arcs], [x.to(device) for x in lens]
    first = None if first is None else first.to(device)
    if durations:
        out = tdt_forward_backward(*moved, *lens, durations, first_BS=first, engine=engine)
    else:
        out = forward_backward(*moved, *lens, topology, first_BS=first, engine=engine)
    weights = torch.arange(1.0, len(lens[0]) + 1, dtype=arcs[0].dtype, device=device)
    gradients = torch.autograd.grad((out.log_prob_B * weights).sum(), arcs)
    return [x.cpu() for x in (*out, *gradients) if x is not None]


def check(engine, frame_lens, token_lens, topology=None, durations=None, rows=None, dtype=torch.float64):
    arcs, lens, first = random_lattice(frame_lens, token_lens, len(durations or ()), rows, dtype)
    found, expected = (solved(name, arcs, lens, first, topology, durations) for name in (engine, "torch"))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-5 if dtype == torch.float32 else 1e-9, atol=1e-4 if dtype == torch.float32 else 1e-9)
        assert not one.isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rows", [None, 2, 5], ids=str)
@pytest.mark.parametrize("frame_lens, token_lens", [*LENS, ([30, 21, 7], [9, 6, 12]), ([50, 8], [20, 0])], ids=str)
def test_numba_equals_torch(frame_lens, token_lens, rows, dtype):
    for topology in TOPOLOGIES:
        check("numba", frame_lens, token_lens, topology, rows=rows, dtype=dtype)
    for durations in DURATIONS:
        check("numba", frame_lens, token_lens, durations=durations, rows=rows, dtype=dtype)


@pytest.mark.parametrize("rows, dtype", [(None, torch.float64), (2, torch.float32)], ids=str)
@pytest.mark.parametrize("kind", ["regular", "modified", (0, 1, 3), (1, 2)], ids=str)
def test_triton_equals_torch(kind, rows, dtype):
    moves = {"topology": kind} if isinstance(kind, str) else {"durations": kind}
    check("triton", [4, 2], [3, 1] if kind != "modified" else [3, 3], rows=rows, dtype=dtype, **moves)


@pytest.mark.parametrize("frame_lens, token_lens", LENS, ids=str)
def test_torch_equals_every_path(frame_lens, token_lens):
    for topology in TOPOLOGIES:
        (blank, label), lens, _ = random_lattice(frame_lens, token_lens)
        found = forward_backward(blank, label, *lens, topology, engine="torch").log_prob_B
        for b, size in enumerate(zip(frame_lens, token_lens)):
            torch.testing.assert_close(found[b], log_prob(blank[b], label[b], *size, topology))
    for durations in DURATIONS:
        arcs, lens, _ = random_lattice(frame_lens, token_lens, len(durations))
        found = tdt_forward_backward(*arcs, *lens, durations, engine="torch").log_prob_B
        for b, size in enumerate(zip(frame_lens, token_lens)):
            torch.testing.assert_close(found[b], tdt_log_prob(*(arc[..., b, :, :] for arc in arcs), *size, durations))


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_windows_are_the_lattice_with_all_else_impossible(engine):
    durations = (0, 1, 2, 4)
    arcs, lens, first = random_lattice([12, 9], [7, 5], len(durations), rows=3)
    row = first.unsqueeze(2) + torch.arange(3)
    full = [torch.full((2, 12, 8), float("-inf"), dtype=torch.float64).scatter(2, row, arc.nan_to_num()) for arc in arcs[:2]]
    full.append(torch.stack([torch.zeros_like(full[0]).scatter(2, row, duration.nan_to_num()) for duration in arcs[2]]))
    for options, n in (({"durations": durations}, 3), ({"topology": "regular"}, 2), ({"topology": "constrained"}, 2)):
        found = solved(engine, arcs[:n], lens, first, **options)
        expected = solved(engine, [x.detach().requires_grad_() for x in full[:n]], lens, None, **options)
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1].gather(2, row))


def test_threads_change_nothing():
    arcs, lens, first = random_lattice([30, 21, 7], [9, 6, 5], 3)
    threads = torch.get_num_threads()
    runs = []
    for count in (1, 2):
        torch.set_num_threads(count)
        runs.append(solved("numba", arcs, lens, first, durations=(0, 1, 2)))
    torch.set_num_threads(threads)
    for one, other in zip(*runs):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_up(tdt_model, dtype):
    """Of the same numbers in few bits, value and gradient are those in float32, up to the rounding of the gradient."""
    from asr.losses.arcs import _ArcLogProbs

    torch.manual_seed(0)
    logits, labels = (30 * torch.randn(6, 3, 13)).to(dtype).requires_grad_(), torch.randint(1, 9, (6, 3))
    wide = logits.detach().float().requires_grad_()
    for one, other in zip(_ArcLogProbs.apply(logits, labels, 4), _ArcLogProbs.apply(wide, labels, 4)):
        assert one.dtype == torch.float32 and torch.equal(one, other)
        one.sum().backward(retain_graph=True)
        other.sum().backward(retain_graph=True)
    torch.testing.assert_close(logits.grad, wide.grad.to(dtype), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16], ids=str)
def test_losses_under_autocast(tdt_model, dtype):
    encoder_out, targets = make_batch([14, 9], [6, 3])
    torch.manual_seed(3)
    loss = PrunedTdt(PrunedTdt.Config(), tdt_model)
    exact = loss(encoder_out, targets, tdt_model, step=0).total_B
    with torch.autocast("cpu", dtype=dtype):
        rough = loss(encoder_out, targets, tdt_model, step=0).total_B
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=2e-2, atol=0)
    rough.sum().backward()
    assert encoder_out.frames_BSD.grad.isfinite().all()
    tdt_model.zero_grad()


def test_choice_of_an_engine(monkeypatch):
    installed = {"numba", "torch"}
    monkeypatch.setattr("asr.losses.engines.importlib.util.find_spec", lambda name: name in installed or None)
    assert (choose_engine("cpu"), choose_engine("cuda"), choose_engine("mps")) == ("numba", "torch", "torch")
    installed.remove("numba")
    assert choose_engine("cpu") == "torch"
    with pytest.raises(ValueError, match="engine numba is not installed.*pip install numba"):
        load_engine("numba", torch.device("cpu"))
    installed.add("numba")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="engine numba cannot run on this device"):
        load_engine("numba", torch.device("cuda"))


def test_numba_works_where_no_cache_can_be_written(monkeypatch):
    device_of("numba")
    import numba

    from asr.losses import numba_engine

    def uncached(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compiled(**options)

    compiled = numba.njit
    monkeypatch.setattr(numba, "njit", uncached)
    assert numba_engine._compiled(lambda x: x + 1)(2) == 3


def test_the_exponential():
    device_of("numba")
    from asr.losses import numba_engine

    for x in [0.0, -1e-9, -0.3, -2.5, -80.0, -699.0]:
        assert numba_engine._exp(x) == pytest.approx(math.exp(x), rel=1e-14, abs=0.0)
    assert numba_engine._exp(-math.inf) == numba_engine._exp(math.nan) == 0.0


@pytest.mark.parametrize("engine", ["torch", "numba", "triton"])
@pytest.mark.parametrize("durations", [None, (0, 1, 2)])
def test_a_score_that_is_no_number_is_told_from_a_missing_alignment(engine, durations):
    arcs, lens, first = random_lattice([4, 3, 1], [3, 2, 5], len(durations or ()))
    arcs[0].data[1, 2, 1] = float("nan")
    with torch.no_grad():
        moved, lens = [arc.detach().to(device_of(engine)) for arc in arcs], [x.to(device_of(engine)) for x in lens]
        out = tdt_forward_backward(*moved, *lens, durations, engine=engine) if durations else \
            forward_backward(*moved, *lens, "modified", engine=engine)
    assert out.log_prob_B[0].isfinite() and out.log_prob_B[1].isnan()
    assert durations or out.log_prob_B[2] == -math.inf
