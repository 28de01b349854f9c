"""Training images: one decoded array, and batches equal to those of torchvision's transforms."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF

from reid_core import files, images
from reid_core.datasets import table as image_table
from reid_core.images import MEAN, STD, decoded, normalise, rgb
from reid_core.training.batches import Batches, Sampler

CPU = torch.device("cpu")


def plain_batch(table, recipe, draw) -> torch.Tensor:
    """The same batch (n, 3, height, width) float32 from the files, image by image, by torchvision's transforms."""
    images = []
    for row, mirror, (down, right), (top, left, bottom, end) in zip(
        draw.rows, draw.mirror, draw.shift, draw.box, strict=True
    ):
        image = rgb(table[image_table.PATH].iloc[row])
        x = TF.pil_to_tensor(TF.resize(image, [recipe.height, recipe.width]))
        x = TF.normalize(TF.to_dtype(x, torch.float32, scale=True), MEAN, STD)
        x = TF.hflip(x) if mirror else x
        if recipe.crop_padding:
            p = recipe.crop_padding
            x = TF.crop(TF.pad(x, [p]), int(p - down), int(p - right), recipe.height, recipe.width)
        images.append(TF.erase(x, int(top), int(left), int(bottom - top), int(end - left), torch.zeros(())))
    return torch.stack(images)


@pytest.mark.parametrize(
    "settings",
    [
        {"mirror": False},
        {"mirror": True},
        {"crop_padding": 5},
        {"crop_padding": 3, "erasing": 1.0},
        {"height": 64, "width": 48, "batch_size": 24, "crop_padding": 4, "erasing": 0.5},
    ],
    ids=str,
)
def test_batches_equal_those_of_the_plain_torchvision_loader(toy_table, toy_root, quick, settings):
    recipe = replace(quick, **settings)
    array = decoded(toy_table, recipe.height, recipe.width, data_root=toy_root)
    batches, sampler = Batches(array.pixels, CPU), Sampler(len(toy_table), recipe)
    for iteration in range(3):
        draw = sampler.draw(iteration)
        batch = batches(draw)
        assert batch.shape == (recipe.batch_size, 3, recipe.height, recipe.width)
        assert batch.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(batch, plain_batch(toy_table, recipe, draw), rtol=0, atol=2e-6)


def test_streamed_images_equal_the_decoded_array(toy_table, toy_root):
    array = decoded(toy_table, 48, 32, data_root=toy_root)
    paths = list(toy_table[image_table.PATH])
    streamed = torch.cat(list(images.streamed(paths, 48, 32, 7, CPU)))
    torch.testing.assert_close(streamed, normalise(torch.from_numpy(array.pixels)))


def test_each_epoch_is_one_shuffled_pass_and_the_order_follows_the_seed(quick):
    recipe = replace(quick, batch_size=4)
    sampler = Sampler(10, recipe)
    stream = np.concatenate([sampler.draw(i).rows for i in range(10)])
    epochs = stream.reshape(4, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
    later = Sampler(10, recipe).draw(7)  # no state: any batch can be drawn alone
    assert np.array_equal(later.rows, stream[28:32])
    assert not np.array_equal(Sampler(10, replace(recipe, seed=1)).draw(7).rows, later.rows)


def test_shares_of_a_batch_make_the_batch(quick):
    draw = Sampler(10, replace(quick, batch_size=6, crop_padding=2, erasing=1.0)).draw(2)
    shares = [draw.shard(rank, 3) for rank in range(3)]
    for name in ("rows", "mirror", "shift", "box"):
        assert np.array_equal(np.concatenate([getattr(s, name) for s in shares]), getattr(draw, name))


def test_augmentation_is_off_in_the_published_recipe_but_for_the_mirror(quick):
    draw = Sampler(24, replace(quick, batch_size=24)).draw(0)
    assert not draw.shift.any() and not draw.box.any() and 0 < draw.mirror.sum() < 24
    assert not Sampler(24, replace(quick, mirror=False)).draw(0).mirror.any()


def test_blanked_boxes_have_the_promised_area(quick):
    recipe = replace(quick, height=128, width=64, batch_size=200, erasing=1.0)
    top, left, bottom, right = Sampler(200, recipe).draw(0).box.T
    assert top.min() >= 0 and left.min() >= 0 and bottom.max() <= 128 and right.max() <= 64
    share = (bottom - top) * (right - left) / (128 * 64)
    assert 0.01 < share.min() and share.max() < 0.22


def test_images_are_decoded_once_and_anew_when_a_file_changes(tmp_path, toy_table, toy_root, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path))
    first = decoded(toy_table, 32, 32, data_root=toy_root)
    with monkeypatch.context() as patch:
        patch.setattr(images, "decode", lambda *_: pytest.fail("decoded again"))
        again = decoded(toy_table, 32, 32, data_root=toy_root)
    assert np.array_equal(first.pixels, again.pixels) and first.digest == again.digest
    table, path = _copy(toy_table, tmp_path)
    same = decoded(table, 32, 32, data_root=tmp_path)
    stat = os.stat(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    touched = decoded(table, 32, 32, data_root=tmp_path)
    assert touched.digest == same.digest and len(list((tmp_path / "decoded").glob("*.npy"))) == 2
    path.write_bytes(open(toy_table[image_table.PATH].iloc[1], "rb").read())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed = decoded(table, 32, 32, data_root=tmp_path)
    assert changed.digest != same.digest and np.array_equal(changed.pixels[0], first.pixels[1])


def test_images_that_change_while_they_are_decoded_are_not_kept(tmp_path, toy_table, toy_root, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    table, path = _copy(toy_table, tmp_path)
    decode = images.decode

    def meddled(source, *rest):
        pixels = decode(source, *rest)
        if source == str(path):
            path.write_bytes(path.read_bytes() + b" ")
        return pixels

    monkeypatch.setattr(images, "decode", meddled)
    with pytest.raises(ValueError, match="changed while they were decoded; start again"):
        decoded(table, 32, 32, data_root=toy_root)
    assert not list((tmp_path / "cache" / "decoded").iterdir())


def _copy(toy_table, tmp_path):
    """The table with its first image alone in a folder of the test's own."""
    path = tmp_path / "copy.jpg"
    path.write_bytes(open(toy_table[image_table.PATH].iloc[0], "rb").read())
    table = toy_table.copy()
    table.loc[0, image_table.PATH] = str(path)
    return table, path


def test_broken_and_missing_images_are_named_and_leave_nothing_behind(tmp_path, toy_table, toy_root, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    table, path = _copy(toy_table, tmp_path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"copy\.jpg cannot be decoded.*whole copy"):
        decoded(table, 32, 32, data_root=toy_root)
    assert list((tmp_path / "cache" / "decoded").iterdir()) == []
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"copy\.jpg: there is no such image; put the data back"):
        decoded(table, 32, 32, data_root=toy_root)


def test_what_a_killed_decoding_left_is_removed(tmp_path, toy_table, toy_root, monkeypatch):
    """A process is killed while it decodes another array; that of a living one stays."""
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path))
    folder = tmp_path / "decoded"
    script = (
        "import os, signal, sys; from reid_core import files\n"
        "with files.replacing(sys.argv[1]) as part: part.write_bytes(b'0'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, folder / "other-64x32.npy"])
    with files.replacing(folder / "living", folder=True) as living:
        assert len(list(folder.iterdir())) == 2
        decoded(toy_table, 32, 32, data_root=toy_root)
        assert list(folder.glob(".*")) == [living]


def test_images_that_are_not_resident_make_the_same_batches(toy_table, toy_root, quick, monkeypatch):
    """A GPU too small for the images, as it were: they stay where they are, a batch's pixels go to the device."""
    array = decoded(toy_table, 32, 32, data_root=toy_root)
    draw = Sampler(24, replace(quick, crop_padding=2, erasing=0.5)).draw(1)
    resident = Batches(array.pixels, CPU)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (array.pixels.nbytes, 2**40))
    apart = Batches(array.pixels, torch.device("meta"))
    assert resident.resident and not apart.resident and apart.images.device == CPU
    rows = torch.from_numpy(draw.rows)
    assert apart.pixels(rows).device.type == "meta" and apart.pixels(rows).shape == (4, 32, 32, 3)
    assert apart(draw).device.type == "meta" and apart(draw).shape == (4, 3, 32, 32)
    apart.device = CPU
    assert torch.equal(apart(draw), resident(draw))


def test_a_full_disk_is_found_before_decoding(tmp_path, toy_table, toy_root, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path))
    full = os.statvfs_result((4096, 4096, 1000, 1, 1, 1, 1, 1, 0, 255))
    monkeypatch.setattr(files.os, "statvfs", lambda _: full)
    with pytest.raises(OSError, match="MiB free and needs.*REID_CORE_CACHE"):
        decoded(toy_table, 128, 64, data_root=toy_root)
