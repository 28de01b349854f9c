"""The recipe: published defaults, strict types, helpful refusals."""

from dataclasses import fields, replace

import pytest
import yaml

from reid_core import model
from reid_core.training import Recipe
from reproduction.runner import profiles

SCRATCH = {"weights": "random", "batchnorm": "live"}


def test_defaults_are_the_published_recipe_for_market1501():
    r = Recipe()
    assert (r.height, r.width, r.batch_size, r.iterations) == (224, 224, 16, 50_000)
    assert (r.base_lr, r.momentum, r.weight_decay, r.dropout) == (1e-3, 0.9, 5e-4, 0.5)
    assert (r.weights, r.batchnorm, r.precision, r.mirror) == ("imagenet", "frozen", "fp32", True)
    rates = [r.learning_rate(i) for i in (0, 19_999, 20_000, 39_999, 40_000, 49_999)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_cuhk03_has_its_own_steps():
    r = Recipe(iterations=75_000, lr_step=15_000)
    assert r.learning_rate(14_999) == pytest.approx(1e-3)
    assert r.learning_rate(74_999) == pytest.approx(1e-7)


def test_cosine_rises_and_ends_near_zero():
    r = Recipe(lr_schedule="cosine", iterations=100, lr_warmup=10, base_lr=1.0)
    assert [r.learning_rate(i) for i in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert r.learning_rate(55) == pytest.approx(0.5)
    assert 0 < r.learning_rate(99) < 0.001


def test_a_batch_of_one_trains_where_a_channel_keeps_several_values():
    taken = [
        Recipe(batch_size=1, height=64, width=32, **SCRATCH),
        Recipe(batch_size=2, height=32, width=32, **SCRATCH),
        Recipe(batch_size=1, height=32, width=32),
    ]
    assert [recipe.batch_size for recipe in taken] == [1, 2, 1], "none is refused"


def test_every_network_setting_is_a_setting_of_the_recipe_with_the_same_default_and_type():
    recipe = {field.name: field for field in fields(Recipe)}
    for field in fields(model.Settings):
        assert recipe[field.name].type == field.type
        if field.name != "batchnorm":  # live suits a random network, frozen the published recipe
            assert recipe[field.name].default == field.default


def test_settings_survive_the_way_through_a_file():
    r = Recipe(loss_weights=[1, 0.5], **SCRATCH)
    assert Recipe.from_dict(r.to_dict()) == r
    assert r.loss_weights == (1.0, 0.5) and [r.loss_weight(i) for i in range(4)] == [1.0, 0.5, 0.5, 0.5]


def test_none_is_a_word_of_yaml_and_null_is_refused():
    """`merging: none` names the control; YAML's null, ~ and Null are no value of a setting."""
    settings = yaml.safe_load("{merging: none, backbone: resnet18}")
    assert Recipe.from_dict(settings).network("hcn", 5).settings.merging == "none"
    with pytest.raises(ValueError, match="not None; did you mean 'none'"):
        Recipe.from_dict(yaml.safe_load("merging: null"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_lr": "1e-3"}, r"base_lr must be a number, not the text '1e-3'; in YAML write 0\.001 or 1\.0e-3"),
        ({"base_lr": "fast"}, "base_lr must be a number, not the text 'fast'"),
        ({"base_lr": float("nan")}, "base_lr must be a number"),
        ({"iterations": 10.5}, "iterations must be an integer"),
        ({"iterations": True}, "iterations must be an integer"),
        ({"mirror": "yes"}, "mirror must be true or false"),
        ({"mirror": 1}, "mirror must be true or false"),
        ({"weights": None}, "weights must be text"),
        ({"loss_weights": 1.0}, "loss_weights must be a list"),
        ({"loss_weights": ["1"]}, "loss_weights must be a number"),
    ],
)
def test_wrong_types_are_named(settings, message):
    with pytest.raises(TypeError, match=message):
        Recipe(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"base_lr": 0}, "base_lr must be above 0"),
        ({"base_lr": -1.0}, "base_lr must be above 0"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"dropout": 1.5}, "dropout must be"),
        ({"erasing": 2.0}, "erasing must be between 0 and 1"),
        ({"crop_padding": -1}, "crop_padding must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"height": 16}, "height and width must be at least 32"),
        ({"lr_warmup": 50_000}, "lr_warmup must be below"),
        ({"loss_weights": []}, "loss_weights must be"),
        ({"loss_weights": [0.0, 1.0]}, "loss_weights must be"),
        ({"lr_schedule": "steps"}, "lr_schedule must be one of step, cosine.*did you mean 'step'"),
        ({"precision": "tf32"}, "precision must be one of"),
        ({"upsample": "bilinaer"}, "did you mean 'bilinear'"),
        ({"merging": None}, "merging must be one of skip, adjacent, none, not None; did you mean 'none'"),
        ({"backbone": "resnet51"}, "backbone 'resnet51' is unknown; did you mean 'resnet50'"),
        ({"backbone": "vgg16"}, "backbone 'vgg16' is unknown. There are the ResNets of torchvision: .*resnet50"),
        ({"batch_size": 1, "batchnorm": "live", "height": 32, "width": 32}, "at 32x32 .*larger batch_size"),
        ({"weights": "ImageNet"}, "weights is 'ImageNet'; did you mean 'imagenet'"),
        ({"align_corners": True}, "align_corners applies"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov"),
        ({"cuda_graph": True, "precision": "fp16"}, "cuda_graph does not go with"),
        ({"weights": "random"}, 'set batchnorm to "live"'),
    ],
)
def test_wrong_values_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**settings)


def test_unknown_settings_are_refused_with_the_closest_one():
    with pytest.raises(ValueError, match="Unknown setting 'base_learning_rate'"):
        Recipe.from_dict({"base_learning_rate": 0.1})
    with pytest.raises(ValueError, match="Unknown setting 'batchsize'; did you mean 'batch_size'"):
        Recipe.from_dict({"batchsize": 16})


def test_differences_name_both_values():
    r = Recipe(**SCRATCH)
    other = replace(r, iterations=10).to_dict()
    assert r.differences(r.to_dict()) == []
    assert r.differences(other) == ["iterations: 10 there, 50000 asked for"]


def test_the_large_batch_profile_trains_for_the_same_epochs_with_scaled_rates():
    paper, large = profiles.load("paper"), profiles.load("paper-large-batch")
    pairs = [(schedule, large["schedules"][name]) for name, schedule in paper["schedules"].items()]
    for few, many in [*pairs, (paper["sensitivity_schedule"], large["sensitivity_schedule"])]:
        small = Recipe.from_dict(paper["recipe"] | few)
        big = Recipe.from_dict(large["recipe"] | many)
        factor = big.batch_size / small.batch_size
        assert factor == 8 and big.base_lr == pytest.approx(factor * small.base_lr)
        assert big.iterations * factor == small.iterations and big.lr_step * factor == small.lr_step
        assert big.lr_warmup * big.batch_size == pytest.approx(5 * 12_936, rel=0.02)
    apart = ("recipe", "schedules", "sensitivity_schedule", "profile", "results_root")
    assert {k: v for k, v in large.items() if k not in apart} == {k: v for k, v in paper.items() if k not in apart}
