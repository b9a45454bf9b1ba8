"""The networks and photographs of the experiments are what they are taken for."""

from __future__ import annotations

import pytest
import torch

from bench import data
from bench.cifar import CLASSES, cifar_net, small_photograph
from bench.photographs import FETCHED_PHOTOGRAPHS, PHOTOGRAPHS, RECOGNISED, photograph
from bench.squeezenet import CROP, SqueezeNet, squeezenet

EXPECTED = {"coffee": "espresso", "chelsea": "Egyptian cat"}
EXPECTED_FETCHED = {"squirrel": "fox squirrel", "pekinese": "Pekinese", "fruits": "lemon"}


def top_class(classifier, name) -> tuple[str, float]:
    x = classifier.inputs(photograph(name, CROP).pixels)
    with torch.no_grad():
        probability, best = classifier.model(x).softmax(1)[0].max(0)
    return classifier.class_names[best], probability.item()


def test_squeezenet_has_the_published_size():
    """1.24 million parameters, Table 1 of its paper."""
    net = SqueezeNet()
    assert sum(p.numel() for p in net.parameters()) == 1_235_496
    assert net(torch.rand(2, 3, CROP, CROP)).shape == (2, 1000)


def test_squeezenet_sees_bgr_without_the_mean():
    """A picture of the mean's colour is zero to the first convolution."""
    net = SqueezeNet()
    mean_rgb = torch.tensor([123.68, 116.779, 103.939]).reshape(1, 3, 1, 1) / 255
    seen = []
    net.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(mean_rgb.expand(1, 3, CROP, CROP))
    assert seen[0].abs().max() < 1e-4


@pytest.mark.skipif(not data.SQUEEZENET.exists(), reason="run python -m bench.data")
def test_squeezenet_recognises_photographs():
    pytest.importorskip("h5py")
    classifier = squeezenet()
    for name, expected in EXPECTED.items():
        found, probability = top_class(classifier, name)
        assert expected in found
        assert probability > 0.4
    if data.OPENCV_PICTURES.exists():
        for name, expected in EXPECTED_FETCHED.items():
            assert expected in top_class(classifier, name)[0]


@pytest.mark.skipif(not data.CIFAR_NET.exists(), reason="run python -m bench.data")
def test_cifar_net_recognises_a_cat():
    """Its layers are where Keras has them: any other order gives noise."""
    pytest.importorskip("h5py")
    with torch.no_grad():
        probability, best = cifar_net()(small_photograph("chelsea")).softmax(1)[0].max(0)
    assert CLASSES[best] == "cat"
    assert probability > 0.7


def test_missing_data_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.cifar.CIFAR_NET", tmp_path / "cnn_model.h5")
    with pytest.raises(FileNotFoundError, match=r"cnn_model\.h5 is missing: run python -m bench"):
        cifar_net()
    monkeypatch.setattr("bench.squeezenet.SQUEEZENET", tmp_path / "weights.h5")
    with pytest.raises(FileNotFoundError, match=r"weights\.h5 is missing: run python -m bench"):
        squeezenet()
    monkeypatch.setattr("bench.photographs.OPENCV_PICTURES", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"squirrel_cls\.jpg is missing: run python"):
        photograph("squirrel")


def test_photographs_are_enough():
    assert len(set(RECOGNISED)) >= 10
    assert set(RECOGNISED) <= {*PHOTOGRAPHS, *FETCHED_PHOTOGRAPHS}
    assert not set(PHOTOGRAPHS) & set(FETCHED_PHOTOGRAPHS)
