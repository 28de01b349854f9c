"""Features by networks that are not the kit's: timm's, modules laid out as torchreid's and CLIP's, functions."""

import numpy as np
import pytest
import torch
import torchvision
import toy_pictures
from torch import nn

from reid_core import features, images, model


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """(data root, table)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CORE_CACHE", str(tmp_path_factory.mktemp("own_network_cache")))
        root = tmp_path_factory.mktemp("own_network_root")
        yield root, toy_pictures.write(root)


def extract(network, toy, **options):
    root, table = toy
    options = {"size": (64, 32), "device": "cpu"} | options
    return features.extract(network, table, data_root=root, progress=False, **options)


def pixels(toy, mean=images.MEAN, std=images.STD):
    """Network input, normalised by the formula."""
    x = np.stack([images.decode(path, 64, 32) for path in toy[1]["image_path"]]) / 255
    return torch.from_numpy((x - mean) / std).permute(0, 3, 1, 2).float().contiguous()


def unit(x):
    x = np.asarray(x, float)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


class Small(nn.Module):
    """Two convolutions and a classifier's features."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.last = nn.Conv2d(8, 5, 3, 2, 1)

    def forward(self, x):
        return self.relu(self.last(self.relu(self.norm(self.conv(x))))).mean((2, 3))


class LikeTorchreid(Small):
    """In training logits and features, in evaluation features alone."""

    def forward(self, x):
        found = super().forward(x)
        return (found.sum(1), found) if self.training else found


class LikeClip(nn.Module):
    """Images and texts in, similarities out; tokens before batch inside."""

    def __init__(self):
        super().__init__()
        self.visual, self.blocks = Small(), nn.ModuleList([nn.TransformerEncoderLayer(5, 1, 8)])

    def encode_image(self, x):
        tokens = self.visual(x).expand(3, -1, -1)  # (t, n, d)
        return self.blocks[0](tokens)[0]

    def forward(self, image, text):
        raise AssertionError("wants texts")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", [Small, LikeTorchreid])
def test_a_module_gives_what_it_gives_in_evaluation_and_stays_as_it_was(kind, toy):
    network = kind().train()
    network.norm.eval()
    before = {name: x.clone() for name, x in network.state_dict().items()}
    found = extract(network, toy, batch_size=7)
    assert [part.training for part in (network, network.norm, network.conv)] == [True, False, True]
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
    with torch.no_grad():
        np.testing.assert_allclose(found.values, unit(network.eval()(pixels(toy))), atol=1e-5)
    assert found.values.dtype == np.float32 and found.meta["model"] == kind.__name__
    assert network(pixels(toy)).requires_grad and not network.conv._forward_hooks


def test_a_function_takes_normalised_contiguous_float32_as_asked(toy):
    mean, std, seen = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), []

    def function(x):
        seen.append(x)
        return x.view(len(x), -1)

    found = extract(function, toy, mean=mean, std=std, batch_size=24, device=None)
    assert seen[0].dtype == torch.float32 and seen[0].device.type == "cpu" and seen[0].shape == (24, 3, 64, 32)
    expected = pixels(toy, mean, std)
    np.testing.assert_allclose(seen[0], expected, atol=1e-5)
    np.testing.assert_allclose(found.values, unit(expected.flatten(1)), atol=1e-6)
    assert found.meta["mean"] == mean and found.meta["std"] == std and found.meta["widths"] == [3 * 64 * 32]


def test_clip_s_layout_is_asked_for_images_alone(toy):
    network = LikeClip()
    with torch.no_grad():
        expected = unit(network.eval().encode_image(pixels(toy)))
    for source in (network.train(), network.encode_image):
        np.testing.assert_allclose(extract(source, toy).values, expected, atol=1e-5)
    assert network.training
    with pytest.raises(ValueError, match=r"'blocks\.0' gives torch.float32 of shape \(3, 24, 5\) for 24 images"):
        extract(network, toy, layer="blocks.0")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_given_images_of_it(dtype, toy):
    network = Small()
    exact = extract(network, toy).values
    found = extract(network.to(dtype), toy).values
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=0.05 if dtype != torch.float64 else 1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_features_of_any_scale_have_length_one(scale, toy):
    found = extract(lambda x: x.mean((2, 3)) * scale, toy, std=(1, 1, 1))
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, rtol=1e-5)


def test_numpy_comes_back_as_well(toy):
    found = extract(lambda x: x.numpy().mean((2, 3), dtype=np.float64), toy)
    np.testing.assert_allclose(found.values, unit(pixels(toy).mean((2, 3))), atol=1e-5)


def test_maps_of_a_layer_are_averaged_over_space(toy):
    network = torchvision.models.resnet18(num_classes=3).eval()
    with torch.no_grad():
        net, x = network, network.maxpool(network.relu(network.bn1(network.conv1(pixels(toy)))))
        maps = net.layer2(net.layer1(x))
    found = extract(network, toy, layer="layer2")
    assert found.values.shape == (24, 128) and found.meta["output"] == "layer2"
    np.testing.assert_allclose(found.values, unit(maps.mean((2, 3))), atol=1e-5)
    np.testing.assert_allclose(  # a layer that gives (n, d, 1, 1), and one after it that gives (n, d)
        extract(network, toy, layer="avgpool").values, extract(network, toy, layer="layer4").values, atol=1e-5
    )


def test_the_kit_s_own_networks_have_layers_too_and_their_own_mean_and_std(toy, monkeypatch):
    monkeypatch.setattr(model, "_backbone", model._backbone)  # so that it is put back
    toy_pictures.make_backbones_thin()
    network = model.HCN(6, "resnet18")
    by_layer = extract(network, toy, layer="backbone.layer4")
    np.testing.assert_allclose(by_layer.values, extract(network, toy).values, atol=1e-5)
    with pytest.raises(ValueError, match="trained with ImageNet's mean and std"):
        extract(network, toy, mean=(0.5, 0.5, 0.5))


def test_timm_s_convolutional_networks(toy):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    network = timm.create_model("resnet10t", pretrained=False, num_classes=0)
    found = extract(network, toy)
    with torch.no_grad():
        np.testing.assert_allclose(found.values, unit(network.eval()(pixels(toy))), atol=1e-5)
    np.testing.assert_allclose(extract(network, toy, layer="layer4").values, found.values, atol=1e-5)
    with pytest.raises(ValueError, match=r"shape \(24, 512, 2, 1\) for 24 images, not \(n, d\). Name a layer"):
        extract(network.forward_features, toy)


def test_timm_s_transformers(toy):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=(64, 32), depth=2)
    with torch.no_grad():
        tokens = network.eval().blocks(network.norm_pre(network._pos_embed(network.patch_embed(pixels(toy)))))
    found = extract(network, toy, layer="blocks.1")
    np.testing.assert_allclose(found.values, unit(tokens.mean(1)), atol=1e-5)
    assert extract(network, toy).values.shape == (24, 192)
    options = {"img_size": (64, 32), "window_size": 2, "depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1,) * 4}
    swin = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, num_classes=0, **options)
    assert extract(swin, toy).values.shape == (24, 192)
    with pytest.raises(ValueError, match=r"shape \(24, 2, 1, 192\) .* look like \(n, height, width, d\)"):
        extract(swin, toy, layer="layers.3")


class Wrong(nn.Module):
    """Gives what it is told to make of rows."""

    def __init__(self, make):
        super().__init__()
        self.make, self.unused = make, nn.Linear(1, 1)

    def forward(self, x):
        return self.make(x.mean((2, 3)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda x: (x, x), r"gives a tuple, not one tensor \(n, d\)\. Give a function"),
        (lambda x: [x], r"gives a list, not one tensor"),
        (lambda x: {"logits": x, "tokens": x}, "gives a dict of logits, tokens, not one tensor"),
        (lambda x: None, "gives a NoneType"),
        (lambda x: x[:, 0], r"torch.float32 of shape \(24,\) for 24 images, not floats"),
        (lambda x: x[1:], r"of shape \(23, 3\) for 24 images"),
        (lambda x: x.argmax(1, keepdim=True), r"torch.int64 of shape \(24, 1\)"),
        (lambda x: x[:, :0], r"of shape \(24, 0\)"),
        (lambda x: x[:, :, None, None].expand(-1, -1, 4, 2), r"of shape \(24, 3, 4, 2\) for 24 images, not \(n, d\)"),
        (lambda x: x[:, None], r"of shape \(24, 1, 3\) for 24 images, not \(n, d\)"),
        (lambda x: x / 0 * 0, "not finite"),
        (lambda x: x.double() * 1e308 * 1e308, "not finite"),
        (lambda x: x - x.mean(0), "depends on its batch"),
    ],
)
def test_what_is_no_feature_is_refused_at_the_first_batch(make, message, toy, tmp_path):
    network, calls = Wrong(lambda x: (calls.append(len(x)), make(x))[1]), []
    with pytest.raises(ValueError, match=message):
        extract(network.train(), toy, path=tmp_path / "f.safetensors", batch_size=24)
    assert calls in ([24], [24, 1]) and network.training and not (tmp_path / "f.safetensors").exists()


def test_features_that_depend_on_the_batch_are_refused(toy):
    network = Small().train()  # batch statistics, inside a function where nobody can see it
    with pytest.raises(ValueError, match="depends on its batch: is the network in training mode"):
        extract(lambda x: network(x), toy)


def test_bad_arguments_are_named(toy):
    network = Small()
    with pytest.raises(TypeError, match="run folder, a torch module or a function of images, not 3"):
        extract(3, toy)
    with pytest.raises(ValueError, match="give height and width"):
        extract(network, toy, size=None)
    with pytest.raises(ValueError, match=r"size is \(height, width\), .* not 64"):
        extract(network, toy, size=64)
    with pytest.raises(ValueError, match="instead of these two"):
        extract(network, toy, height=64)
    with pytest.raises(ValueError, match="of RGB from 0 to 1, not"):
        extract(network, toy, mean=(123.7, 116.3, 103.5))
    with pytest.raises(ValueError, match="three numbers each"):
        extract(network, toy, std=(0.2, 0.2, 0.0))
    with pytest.raises(ValueError, match="no layer 'cnv'; it has conv"):
        extract(network, toy, layer="cnv")
    with pytest.raises(ValueError, match="it has none: it is no torch module"):
        extract(lambda x: x, toy, layer="conv")
    with pytest.raises(ValueError, match="'relu' ran 2 times in one pass"):
        extract(network, toy, layer="relu")
    with pytest.raises(ValueError, match=r"'unused' ran 0 times"):
        extract(Wrong(lambda x: x), toy, layer="unused")


def test_a_file_is_written_and_never_taken_for_another_network_s(toy, tmp_path):
    path = tmp_path / "f.safetensors"
    first = extract(Wrong(lambda x: x), toy, path=path)
    second = extract(Wrong(lambda x: x[:, :2]), toy, path=path)  # the same weights and structure, another forward
    assert first.values.shape == (24, 3) and second.values.shape == (24, 2)
    assert np.array_equal(features.load(path, toy[0]).values, second.values)


def test_a_network_on_several_devices_stays_there(toy):
    network = Small()
    network.last.to("meta")
    with pytest.raises(ValueError, match="lies on 2 devices, so it stays there"):
        extract(network, toy)
    assert network.conv.weight.device.type == "cpu" and network.last.weight.device.type == "meta"


def test_device_meta_is_refused_before_it_takes_the_weights(toy):
    network = Small()
    with pytest.raises(ValueError, match="Device meta, which holds no values, was asked for"):
        extract(network, toy, device="meta")
    assert network.conv.weight.device.type == "cpu"
    with pytest.raises(ValueError, match="The network lies on device meta, without weights"):
        extract(Small().to("meta"), toy)
    with pytest.raises(ValueError, match="The network gives a tensor on device meta, which holds no values"):
        extract(lambda x: x.mean((2, 3)).to("meta"), toy)
