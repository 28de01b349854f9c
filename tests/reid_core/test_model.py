"""The networks of Section 3.2: shapes, the two forms of the heads, what trains and what stays."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.feature_extraction import create_feature_extractor

from reid_core.model import HCN, Dropout, ResNet50Baseline, load_backbone

COMMUTING = [
    {},
    {"upsample": "bilinear"},
    {"conv1_level": True},
    {"merging": "adjacent"},
    {"merging": "adjacent", "conv1_level": True, "upsample": "bilinear"},
    {"merging": "none"},
    {"merging": "none", "conv1_level": True, "upsample": "bicubic", "align_corners": True},
]
NOT_COMMUTING = [
    {"upsample": "bicubic"},
    {"upsample": "bilinear", "align_corners": True},
    {"merge_relu": True},
    {"merge_conv3x3": True},
    {"pooling": "maximum"},
    {"merging": "none", "merge_relu": True},
    {"merging": "none", "merge_conv3x3": True},
    {"merging": "none", "pooling": "maximum"},
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small gain nothing from threads, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pooled_formula(network):
    """mean(C) = lateral(mean(lower)) + mean(upper), whether it holds or not."""
    means = {name: x.mean((2, 3), keepdim=True) for name, x in network.stages(None).items()}
    for name, (upper, lower) in network.merges.items():
        added = 0 if network.settings.merging == "none" else means[upper]
        means[name] = network.laterals[name](means[lower]) + added
    return {name: means[name].flatten(1) for name in network.widths}


def hcn(height=64, width=32, **options):
    """HCN in float64 whose backbone is replaced by random maps of the right sizes, so only the heads compute."""
    torch.manual_seed(0)
    network = HCN(5, "resnet18", dropout=0.0, **options).double()
    maps, sizes = {}, (height, width)
    for name, channels in zip(("r1", "r2", "r3", "r4", "r5"), (64, 64, 128, 256, 512), strict=True):
        sizes = tuple((x + 1) // 2 for x in sizes)
        maps[name] = torch.randn(3, channels, *sizes, dtype=torch.float64, requires_grad=True)
    network.stages = lambda images: maps
    return network, maps


def test_maps_at_224_have_the_sizes_of_the_paper():
    with torch.device("meta"):
        network = HCN(751)
        maps = network.eval().maps(torch.empty(1, 3, 224, 224))
    sizes = {name: tuple(x.shape[1:]) for name, x in maps.items()}
    assert sizes["r2"] == (256, 56, 56) and sizes["r3"] == (512, 28, 28)
    assert sizes["r4"] == (1024, 14, 14) and sizes["r5"] == (2048, 7, 7)
    assert sizes["c1"] == (2048, 28, 28) and sizes["c2"] == (1024, 56, 56)
    assert network.merges == {"c1": ("r5", "r3"), "c2": ("r4", "r2")}


def test_plain_laterals_cost_forty_percent_and_pooled_ones_nothing_worth_counting():
    def macs(model, **options):
        with torch.device("meta"):
            network, images = model(751, **options).eval(), torch.empty(1, 3, 224, 224)
        with FlopCounterMode(display=False) as counter:
            network(images)
        return counter.get_total_flops() / 2

    baseline, classifiers = macs(ResNet50Baseline), 751 * (2048 + 1024)
    plain = macs(HCN, heads="plain") - baseline - classifiers
    assert baseline == pytest.approx(4.09e9, rel=0.005)
    assert plain == 512 * 2048 * 28**2 + 256 * 1024 * 56**2
    assert plain / baseline == pytest.approx(0.40, abs=0.005)
    assert macs(HCN) - baseline - classifiers == 512 * 2048 + 256 * 1024


def test_stages_are_those_of_torchvision():
    network, images = HCN(5, "resnet18").eval(), torch.randn(2, 3, 64, 32)
    names = {"layer1": "r2", "layer2": "r3", "layer3": "r4", "layer4": "r5"}
    expected = create_feature_extractor(torchvision.models.resnet18(), {"relu": "r1", **names})
    expected.load_state_dict(network.backbone.state_dict(), strict=False)
    stages = network.stages(images)
    for name, x in expected.eval()(images).items():
        torch.testing.assert_close(stages[name], x)


def test_cross_maps_equal_a_loop_over_pixels():
    network, maps = hcn()
    merged = network.maps(None)
    for name, (upper, lower) in {"c1": ("r5", "r3"), "c2": ("r4", "r2")}.items():
        lateral = network.laterals[name]
        weight, bias = lateral.weight[:, :, 0, 0], lateral.bias
        _, _, height, width = maps[lower].shape
        for y in range(height):
            for x in range(width):
                expected = maps[lower][:, :, y, x] @ weight.T + bias + maps[upper][:, :, y // 4, x // 4]
                torch.testing.assert_close(merged[name][:, :, y, x], expected)


SKIPPED = {"c1": ("r5", "r3"), "c2": ("r4", "r2")}
ADJACENT = {"c1": ("r5", "r4"), "c2": ("c1", "r3"), "c3": ("c2", "r2")}


@pytest.mark.parametrize(
    ("options", "merges"),
    [
        ({"merging": "adjacent"}, ADJACENT),
        ({"conv1_level": True}, SKIPPED | {"c3": ("r3", "r1")}),
        ({"merging": "adjacent", "conv1_level": True}, ADJACENT | {"c4": ("c3", "r1")}),
        ({"merge_relu": True}, SKIPPED),
        ({"merge_conv3x3": True}, SKIPPED),
        ({"merging": "adjacent", "merge_conv3x3": True, "merge_relu": True}, ADJACENT),
        ({"pooling": "maximum"}, SKIPPED),
        ({"merging": "none"}, SKIPPED),
        ({"merging": "none", "merge_relu": True, "merge_conv3x3": True}, SKIPPED),
        ({"merging": "none", "conv1_level": True, "pooling": "maximum"}, SKIPPED | {"c3": ("r3", "r1")}),
    ],
    ids=str,
)
def test_every_variant_equals_its_formula_read_aloud(options, merges):
    """Merge first (nearest neighbour, 1x1, sum), then 3x3, then ReLU, then pool; the chain takes maps before both."""
    network, maps = hcn(**options)
    merged, outputs = dict(maps), {"r5": maps["r5"]}
    for name, (upper, lower) in merges.items():
        lateral, (_, _, height, width) = network.laterals[name], merged[lower].shape
        rows = [y * merged[upper].shape[2] // height for y in range(height)]
        columns = [x * merged[upper].shape[3] // width for x in range(width)]
        widened = torch.einsum("nchw,kc->nkhw", merged[lower], lateral.weight[:, :, 0, 0])
        merged[name] = widened + lateral.bias[:, None, None]
        if options.get("merging") != "none":
            merged[name] = merged[name] + merged[upper][:, :, rows][..., columns]
        x = merged[name]
        if "merge_conv3x3" in options:
            kernel, padded = network.after[name], torch.zeros(*x.shape[:2], height + 2, width + 2).double()
            padded[:, :, 1:-1, 1:-1] = x
            x = kernel.bias[:, None, None] + sum(
                torch.einsum("nchw,kc->nkhw", padded[:, :, i : i + height, j : j + width], kernel.weight[:, :, i, j])
                for i in range(3) for j in range(3)
            )  # fmt: skip
        outputs[name] = x.clamp(min=0) if "merge_relu" in options else x
    pooled = network.pooled(None)
    assert list(pooled) == list(outputs)
    for name, x in outputs.items():
        expected = x.flatten(2).max(2).values if "pooling" in options else x.flatten(2).mean(2)
        torch.testing.assert_close(pooled[name], expected)


@pytest.mark.parametrize("options", COMMUTING, ids=str)
@pytest.mark.parametrize("size", [(64, 32), (96, 32)])
def test_pooled_form_equals_plain_form_in_output_and_gradients(options, size):
    results = []
    for heads in ("pooled", "plain"):
        network, maps = hcn(*size, heads=heads, **options)
        assert network.form(*size) == heads
        logits = network.train()(None)
        sum((x * torch.linspace(-1, 1, 5)).square().sum() for x in logits.values()).backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if "backbone" not in name}
        results.append((logits, gradients | {name: x.grad for name, x in maps.items()}))
    (pooled, pooled_gradients), (plain, plain_gradients) = results
    for name in plain:
        torch.testing.assert_close(pooled[name], plain[name], rtol=1e-10, atol=1e-13)
    for name, gradient in plain_gradients.items():
        if gradient is None:  # R1, where it is not merged, and R4 where nothing is
            assert pooled_gradients[name] is None
            assert name == "r1" and "conv1_level" not in options or name == "r4" and options["merging"] == "none"
        else:
            torch.testing.assert_close(pooled_gradients[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("heads", ["pooled", "plain"])
def test_without_merging_each_head_learns_from_its_own_map_and_nothing_else_differs(heads):
    """The control of Section 3.2's claim: HCN's numbers at the start, but R5 and R4 are not added to C1 and C2."""
    (alone, maps), (merged, above) = (hcn(heads=heads, merging=name) for name in ("none", "skip"))
    ours, theirs = alone.state_dict(), merged.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert alone.widths == merged.widths == {"r5": 512, "c1": 512, "c2": 256}
    outputs = alone(None)
    for name, source in {"c1": "r3", "c2": "r2", "r5": "r5"}.items():
        found = torch.autograd.grad(outputs[name].square().sum(), list(maps.values()), allow_unused=True)
        assert [stage for stage, x in zip(maps, found, strict=True) if x is not None] == [source]
        trained = torch.autograd.grad(merged(None)[name].square().sum(), above["r5"], allow_unused=True)[0]
        assert (trained is None) == (name == "c2"), "HCN's C1 trains R5, too"
    weights = [alone.classifiers[name].weight for name in outputs] + [x.weight for x in alone.laterals.values()]
    loss = sum(x.square().sum() for x in alone(None).values())
    assert all(x.abs().sum() > 0 for x in torch.autograd.grad(loss, weights)), "no parameter is idle"


@pytest.mark.parametrize("options", NOT_COMMUTING, ids=str)
def test_plain_form_is_used_where_pooling_does_not_commute(options):
    network, _ = hcn(128, 96, **options)  # over two pixels, the errors of both borders would cancel
    assert network.form(128, 96) == "plain"
    assert not torch.allclose(network.pooled(None)["c1"], pooled_formula(network)["c1"], rtol=1e-4)


def test_plain_form_is_used_where_a_factor_is_not_an_integer():
    network, _ = hcn(80, 48)  # R3 is 10x6, R5 3x2
    assert network.form(80, 48) == "plain" and network.form(96, 64) == "pooled"
    assert hcn(80, 48, merging="none")[0].form(80, 48) == "pooled", "without merging there is no factor"
    assert not torch.allclose(network.pooled(None)["c1"], pooled_formula(network)["c1"], rtol=1e-4)


@pytest.mark.parametrize("options", [*COMMUTING, *NOT_COMMUTING], ids=str)
def test_features_agree_with_the_forward_pass(options):
    network, _ = hcn(**options)
    pooled, logits = network.pooled(None), network.eval()(None)
    assert list(pooled) == list(network.widths) == list(logits)
    for name, width in network.widths.items():
        assert pooled[name].shape == (3, width)
        torch.testing.assert_close(network.features(None, name), pooled[name])
        torch.testing.assert_close(network.classifiers[name](pooled[name]), logits[name])


def test_baseline_and_hcn_start_from_the_same_numbers():
    torch.manual_seed(3)
    baseline = ResNet50Baseline(7, "resnet18").state_dict()
    torch.manual_seed(3)
    network = HCN(7, "resnet18").state_dict()
    assert baseline.keys() < network.keys()
    assert all(torch.equal(baseline[name], network[name]) for name in baseline)


def test_frozen_batchnorm_keeps_its_statistics_while_scale_and_bias_train():
    network = HCN(5, "resnet18", batchnorm="frozen").train()
    before = {name: x.clone() for name, x in network.state_dict().items() if "running" in name}
    sum(x.square().sum() for x in network(torch.randn(4, 3, 64, 32)).values()).backward()
    assert all(torch.equal(network.state_dict()[name], x) for name, x in before.items())
    assert network.backbone.bn1.weight.grad.abs().sum() > 0
    assert not network.backbone.bn1.training and network.dropout.training
    live = HCN(5, "resnet18").train()
    live(torch.randn(4, 3, 64, 32))
    assert not torch.equal(live.backbone.bn1.running_mean, torch.zeros(64))


def test_dropout_masks_do_not_depend_on_the_number_of_processes():
    dropout, x = Dropout(0.5), torch.ones(8, 16)

    def masks(rank, processes):
        torch.manual_seed(1)
        dropout.shard = (rank, processes)
        n = len(x) // processes
        return dropout(x[rank * n : (rank + 1) * n])

    whole = masks(0, 1)
    assert torch.equal(whole, torch.cat([masks(0, 2), masks(1, 2)]))
    assert set(whole.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_backbone_weights_come_from_a_local_file(tmp_path, suffix):
    source, target = HCN(5, "resnet18"), HCN(9, "resnet18")
    state = source.backbone.state_dict() | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    path = tmp_path / f"weights{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    load_backbone(target, str(path))
    for name, x in source.backbone.state_dict().items():
        assert torch.equal(target.backbone.state_dict()[name], x)


def test_wrong_weights_are_refused_with_file_and_difference(tmp_path):
    network = ResNet50Baseline(5, "resnet18")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth.*existing"):
        load_backbone(network, str(tmp_path / "nowhere.pth"))
    (tmp_path / "noise.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"noise\.pth cannot be read"):
        load_backbone(network, str(tmp_path / "noise.pth"))
    torch.save(HCN(5, "resnet34").backbone.state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth.*not the weights of a resnet18.*too many"):
        load_backbone(network, str(tmp_path / "other.pth"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes must be"),
        ({"num_classes": True}, "num_classes must be"),
        ({"backbone": "resnet19"}, "Unknown backbone 'resnet19'"),
        ({"upsampling": "nearest"}, "Unknown network option 'upsampling'"),
        ({"upsample": "linear"}, "upsample must be one of nearest, bilinear, bicubic"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"align_corners": True}, "align_corners applies"),
        ({"merging": None}, "merging must be one of skip, adjacent, none, not None"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        HCN(**({"num_classes": 5, "backbone": "resnet18"} | arguments))


def test_an_unknown_output_is_refused():
    with pytest.raises(ValueError, match="outputs r5, not 'c1'"):
        ResNet50Baseline(5, "resnet18").features(torch.zeros(1, 3, 64, 32), "c1")
