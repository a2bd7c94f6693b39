"""What every backbone of the project owes its users."""

import copy
import inspect
import re

import pytest
import torch
from families import SMALL, families, two_stages
from mmcv.ops import RoIAlign
from torch import nn
from torchvision.ops import roi_align

from cluenet_mm.backbones import FEC, CLUENet, ContextCluster
from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.ops import implementation

# What a release never trains (see ClusterPool).
UNTRAINED = {FEC: [f"reducers.{i}.feature." for i in range(3)]}


def build(family, **options):
    torch.manual_seed(0)
    return family(**{**SMALL[family], **options})


@families
@pytest.mark.parametrize("size", [(64, 64), (37, 91), (4, 4), (5, 130), (33, 4)])
def test_any_size_gives_a_pyramid(family, size):
    outs = build(family, out_indices=(0, 1, 2, 3))(torch.randn(2, 3, *size))
    assert isinstance(outs, tuple)
    height, width = size[0] // 4, size[1] // 4
    for out, dims in zip(outs, (8, 12, 16, 20), strict=True):
        assert out.shape == (2, dims, height, width)
        assert out.isfinite().all()
        height, width = -(-height // 2), -(-width // 2)


@families
def test_outputs_are_what_mmcv_s_operators_read(family):
    outs = build(family, out_indices=(0, 1, 2, 3))(torch.randn(2, 3, 64, 48))
    boxes = torch.tensor([[0, 1.0, 2.0, 7.0, 5.0], [1, 0.0, 0.0, 3.0, 8.0]])
    for out in outs:
        neck = nn.Conv2d(out.size(1), 6, 1)  # as a pyramid has it
        for x in (out, neck(out)):
            expected = roi_align(x, boxes, 4, aligned=True)
            torch.testing.assert_close(RoIAlign(4, aligned=True)(x, boxes), expected)


@families
def test_an_image_of_other_channels_is_named(family):
    with pytest.raises(
        ValueError, match="an image of 1 channels: the network is for 3"
    ):
        build(family)(torch.rand(1, 1, 32, 32))


@families
def test_too_small_an_image_is_named(family):
    with pytest.raises(ValueError, match="an image of 3 x 40 pixels: it is smaller"):
        build(family)(torch.randn(1, 3, 3, 40))


@families
@pytest.mark.parametrize(
    ("out_indices", "stages"),
    [(3, [3]), (-1, [3]), ((0, 2), [0, 2]), ([-4, -1], [0, 3]), ([2, 1], [1, 2])],
)
def test_out_indices(family, out_indices, stages):
    given = copy.copy(out_indices)
    model = build(family, out_indices=out_indices)
    assert out_indices == given
    image = torch.randn(1, 3, 32, 48)
    everything = build(family, out_indices=range(4))
    everything.load_state_dict(model.state_dict(), strict=False)
    outs = model.eval()(image)
    assert [out.size(1) for out in outs] == [(8, 12, 16, 20)[i] for i in stages]
    expected = everything.eval()(image)
    for out, stage in zip(outs, stages, strict=True):
        torch.testing.assert_close(out, expected[stage])


@families
def test_unused_parts_are_not_built(family):
    model = build(family, out_indices=(0, 1))
    sum(out.sum() for out in model(torch.randn(2, 3, 32, 32))).backward()
    trained = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert [name for name, grad in trained.items() if grad is None] == []


@families
@pytest.mark.parametrize(
    "options",
    [
        {"out_indices": 4},
        {"out_indices": (-5,)},
        {"out_indices": ()},
        {"frozen_stages": 5},
        {"frozen_stages": -2},
        {"arch": "huge"},
        {"arch": {"depths": (1,)}},
        {"drop_path_rate": -0.1},
        {"drop_path_rate": 1.0},
        {"drop_path_rate": float("nan")},
    ],
    ids=str,
)
def test_bad_options_are_errors(family, options):
    with pytest.raises(ValueError, match=r"\w"):
        build(family, **options)


@families
@pytest.mark.parametrize("depths", [(1, 0, 1, 1), (1, 1, 2, -1), (0, 0, 0, 0)])
def test_a_stage_without_blocks_is_an_error(family, depths):
    with pytest.raises(ValueError, match="depths of arch must be 4 positive"):
        build(family, arch={**SMALL[family]["arch"], "depths": depths})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depths", ()),
        ("depths", 2),
        ("depths", (1.5, 1, 1, 1)),
        ("embed_dims", -5),
        ("embed_dims", (8, 8, 8)),
        ("embed_dims", ("a", "b", "c", "d")),
        ("mlp_ratios", 4),
        ("mlp_ratios", (0, 1, 1, 1)),
        ("num_heads", 0),
        ("num_heads", (1, 1, 1, -1)),
        ("head_dims", 0),
        ("head_dims", None),
        ("patch", 0),
        ("patch", (3, 0, 1)),
        ("patch", (3, 1, -1)),
        ("pool_norm", "yes"),
    ],
)
def test_an_entry_of_another_kind_is_named(name, value):
    arch = {**SMALL[CLUENet]["arch"], name: value}
    with pytest.raises(ValueError, match=rf"^{name} of arch must be .*, not "):
        build(CLUENet, arch=arch)


@families
def test_outputs_tell_their_channels_and_strides(family):
    model = build(family, out_indices=(1, 3))
    outs = model(torch.randn(1, 3, 64, 32))
    assert model.out_channels == tuple(out.size(1) for out in outs)
    assert model.out_strides == tuple(64 // out.size(2) for out in outs)


@pytest.mark.parametrize("family", [FEC, ContextCluster])
def test_the_old_name_of_the_centers_still_works(family):
    with pytest.warns(FutureWarning, match="proposal_grids is called cluster_grids"):
        model = build(family, proposal_grids=(1, 2, 3, 4))
    grids = [stage[0].mixer.cluster_grid for stage in model.stages]
    assert grids == [(1, 1), (2, 2), (3, 3), (4, 4)]


@families
def test_an_unknown_option_is_an_error(family):
    with pytest.raises(TypeError, match="fork_feat"):
        build(family, fork_feat=True)


@families
@pytest.mark.parametrize("frozen_stages", [-1, 0, 2, 4])
def test_frozen_stages(family, frozen_stages):
    model = build(family, frozen_stages=frozen_stages, out_indices=(0, 1, 2, 3))
    assert model.train() is model
    prefixes = [] if frozen_stages < 0 else ["embed."]
    for i in range(max(frozen_stages, 0)):
        prefixes += [f"stages.{i}.", f"norm{i}."]
        if i:
            prefixes.append(f"reducers.{i - 1}.")
    untrained = (*prefixes, *UNTRAINED.get(family, ()))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(untrained), name
    for name, module in model.named_modules():
        if name and not isinstance(module, nn.ModuleList):
            assert module.training != f"{name}.".startswith(tuple(prefixes)), name


@families
def test_checkpointing_saves_memory_and_changes_nothing(family):
    image = torch.randn(2, 3, 64, 64)
    grads, saved = [], []
    for with_cp in (False, True):
        model = build(family, with_cp=with_cp, drop_path_rate=0.3).train()
        kept = 0

        def pack(x):
            nonlocal kept
            kept += x.numel()
            return x

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = model(image)[0].square().mean()
        saved.append(kept)
        loss.backward()
        grads.append({n: p.grad for n, p in model.named_parameters()})
    torch.testing.assert_close(grads[0], grads[1])
    assert saved[1] < 0.5 * saved[0]


@families
def test_images_of_a_batch_do_not_meet(family):
    model = build(family).eval()
    images = torch.randn(3, 3, 40, 36)
    together = model(images)[0]
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], model(images[i : i + 1])[0])


@families
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_trains(family, dtype):
    model = build(family)
    model.init_weights()
    with torch.autocast("cpu", dtype=dtype):
        out = model(torch.randn(2, 3, 64, 48))[0]
    out.float().square().mean().backward()
    # fp32 where a residual is scaled by a parameter
    assert out.dtype in (dtype, torch.float32)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad.isfinite().all() for p in trained)


@families
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_stays_close(family, dtype):
    # One center for all points, so that rounding cannot move a point to another one,
    # and the first stage alone: pooling by clusters would depend on rounding.
    model = build(family, cluster_grids=1, out_indices=0)
    model.init_weights()
    image = torch.randn(2, 3, 64, 48)
    exact = model(image)[0]
    with torch.autocast("cpu", dtype=dtype):
        out = model(image)[0].float()
    error = (out - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert error < 8 * torch.finfo(dtype).eps


@families
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_run_with_every_implementation(family, dtype):
    model = build(family).eval().to(dtype)
    for name in ("naive", "auto"):
        with implementation(name), torch.no_grad():
            out = model(torch.randn(1, 3, 32, 32, dtype=dtype))[0]
        assert out.dtype == dtype
        assert out.isfinite().all()


@families
def test_ratios_of_mlps_may_be_fractions(family):
    arch = {**SMALL[family]["arch"], "mlp_ratios": (2.5, 1.5, 2, 2)}
    assert build(family, arch=arch)(torch.randn(1, 3, 32, 32))[0].isfinite().all()


@families
def test_gradients_of_every_image_alone(family):
    model = build(family, **two_stages(family)).double()
    parameters = {k: p.detach() for k, p in model.named_parameters() if p.requires_grad}
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)

    def loss(parameters, image):
        out = torch.func.functional_call(model, parameters, image[None])[0]
        return out.square().sum()

    found = torch.vmap(torch.func.grad(loss), (None, 0))(parameters, images)
    for i, image in enumerate(images):
        alone = torch.func.grad(loss)(parameters, image)
        for name, expected in alone.items():
            torch.testing.assert_close(found[name][i], expected)


@families
def test_every_implementation_trains_alike(family):
    image = torch.randn(2, 3, 40, 56, dtype=torch.float64)
    results = []
    for name in ("naive", "auto"):
        model = build(family).double()
        with implementation(name):
            out = model(image)[0]
        out.square().sum().backward()
        results.append((out, {n: p.grad for n, p in model.named_parameters()}))
    torch.testing.assert_close(results[0], results[1])


@families
def test_a_compiled_backbone_trains_as_the_eager_one(family):
    model = build(family, **two_stages(family)).double()
    image = torch.randn(2, 3, 33, 40, dtype=torch.float64)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    results = []
    for run in (model, compiled):
        model.zero_grad()
        out = run(image)[0]
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append((out, {n: p.grad for n, p in model.named_parameters()}))
    torch.testing.assert_close(results[0], results[1])
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad.abs().max() > 0 for p in trained)


@families
def test_a_batch_of_no_images(family):
    model = build(family, out_indices=(0, 1, 2, 3))
    outs = model(torch.randn(0, 3, 64, 37))
    shapes = [tuple(out.shape) for out in outs]
    assert shapes == [(0, 8, 16, 9), (0, 12, 8, 5), (0, 16, 4, 3), (0, 20, 2, 2)]
    sum(out.sum() for out in outs).backward()


@pytest.mark.parametrize("family", [CLUENet, FEC, ContextCluster])
@pytest.mark.parametrize("grids", [1, 4])
def test_the_projection_of_a_mixer_runs_as_a_module(family, grids):
    # Few centers, or more than there are points: hooks, adapters and quantizers see a
    # linear layer at work in both cases.
    model = build(family, cluster_grids=grids)
    mixer = model.stages[0][0].mixer
    seen = []
    mixer.proj.register_forward_hook(lambda *call: seen.append(call))
    image = torch.randn(2, 3, 24, 24)
    expected = model(image)[0]
    ((_, (points,), out),) = seen
    assert points.size(-1) == mixer.proj.in_features
    assert out.shape == (*points.shape[:-1], mixer.proj.out_features)
    mixer.proj = Doubled(mixer.proj)
    changed = model(image)[0]
    assert not torch.allclose(changed, expected)
    with torch.no_grad():
        mixer.proj = mixer.proj.layer
        mixer.proj.weight.mul_(2), mixer.proj.bias.mul_(2)
    torch.testing.assert_close(model(image)[0], changed)


class Doubled(nn.Module):
    """An adapter around a linear layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    @property
    def bias(self):
        return 2 * self.layer.bias

    def forward(self, x):
        return 2 * self.layer(x)


@families
def test_defaults_are_documented(family):
    signature = inspect.signature(family)
    documented = set(re.findall(r"^ +(\w+): ", inspect.getdoc(family), re.M))
    assert set(signature.parameters) <= documented
    kinds = {p.kind for p in signature.parameters.values()}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def pretrained(path, prefix="backbone."):
    return {"type": "Pretrained", "checkpoint": str(path), "prefix": prefix}


@pytest.fixture
def save(tmp_path):
    """Save a backbone as a classifier's checkpoint."""

    def save(model, **meta):
        weights = {f"backbone.{k}": v for k, v in model.state_dict().items()}
        weights["head.fc.weight"] = torch.zeros(3, 3)
        path = tmp_path / "weights.pth"
        torch.save({"state_dict": weights, "meta": meta}, path)
        return path

    return save


@families
def test_pretrained_weights_of_a_classifier(family, save):
    model = build(family)
    model.init_weights()
    path = save(model)
    dense = build(
        family,
        out_indices=(0, 1, 2),
        init_cfg=pretrained(path),
        cluster_grids=1,  # grids are no weights
    )
    dense.init_weights()
    expected = model.state_dict()
    for name, value in dense.state_dict().items():
        if not name.startswith("norm"):
            assert torch.equal(value, expected[name]), name


@families
@pytest.mark.parametrize("prefix", ["backbone", None])
def test_pretrained_weights_of_another_size_are_named(family, prefix, save, tmp_path):
    arch = {
        **SMALL[family]["arch"],
        "depths": (1, 1, 1, 1),
        "embed_dims": (8, 12, 8, 20),
    }
    other = build(family, arch=arch)
    path = save(other)
    if prefix is None:
        path = tmp_path / "bare.pth"
        torch.save(other.state_dict(), path)
    model = build(family, init_cfg=pretrained(path, prefix))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError, match=r"missing: stages\.1\.1\.") as error:
        model.init_weights()
    assert "of another shape: " in str(error.value)
    assert str(path) in str(error.value)
    assert before.keys() == model.state_dict().keys()


@families
def test_a_prefix_that_matches_nothing_is_an_error(family, save):
    path = save(build(family))
    for prefix, cure in (
        ("module.backbone.", "give the config"),
        ("", "set prefix='backbone.' in init_cfg"),
    ):
        model = build(family, init_cfg=[pretrained(path, prefix)])
        with pytest.raises(CheckpointError, match=f"missing: .*{cure}"):
            model.init_weights()


def test_pretrained_weights_of_another_family_are_named(save):
    path = save(build(CLUENet))
    model = build(FEC, init_cfg=pretrained(path))
    with pytest.raises(CheckpointError, match=r"unexpected: .*embed\.norm"):
        model.init_weights()


def test_pretrained_weights_with_another_divisor_are_an_error(save):
    path = save(build(ContextCluster), options={"divisor": "members"})
    with pytest.raises(CheckpointError, match="divisor='members'"):
        build(ContextCluster, init_cfg=pretrained(path)).init_weights()
    build(ContextCluster, divisor="members", init_cfg=pretrained(path)).init_weights()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@families
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_cuda_agrees_with_the_cpu(family, dtype):
    model = build(family).eval()
    model.init_weights()
    image = torch.randn(2, 3, 97, 130)
    with torch.no_grad():
        expected = model(image)[0]
        model.cuda()
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
            out = model(image.cuda())[0].float().cpu()
    similarity = torch.cosine_similarity(out.flatten(1), expected.flatten(1))
    assert similarity.min() > (0.9999 if dtype is None else 0.98)
