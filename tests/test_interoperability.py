"""What users do with a network around Zoo: pickling, processes, threads, tracing, export and compilation."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import zoo
from zoo import errors

NAMES = ["resnet20.digits", "gcn4_3x3.mnist", "stn_cnn_mnist.mnist_rts", "dtp_mlp.mnist", "googlenet_small.c10"]


def inputs(model: nn.Module, batch: int) -> Tensor:
    size = zoo.preprocess(model).preprocess.input_size
    return torch.randn(batch, *size, generator=torch.Generator().manual_seed(0))


def equal(left: nn.Module, right: nn.Module, x: Tensor) -> bool:
    with torch.no_grad():
        return torch.equal(left(x), right(x))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_survives_pickle_and_deepcopy(name: str) -> None:
    model = zoo.create(name).eval()
    x = inputs(model, 2)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert equal(model, other, x)
        assert zoo.preprocess(other).preprocess == zoo.preprocess(model).preprocess


def test_a_transform_survives_pickle() -> None:
    transform = zoo.preprocess(zoo.create("airbench94.c10"))
    picture = Image.effect_noise((40, 30), 60).convert("RGB")
    assert torch.equal(pickle.loads(pickle.dumps(transform))(picture), transform(picture))


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_survives_pickle_as_between_processes(name: str) -> None:
    error = getattr(errors, name)("What was wrong.", hint="What to do.")
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert (str(other), other.message, other.hint) == (str(error), "What was wrong.", "What to do.")


class Pictures(Dataset[Tensor]):
    def __init__(self, transform: object) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.new("L", (8, 8), 20 * index))  # type: ignore[operator]  # a callable


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_worker_processes_of_a_data_loader_prepare_images(start: str) -> None:
    pictures = Pictures(zoo.preprocess(zoo.create("resnet20.digits")))
    loader = DataLoader(pictures, batch_size=4, num_workers=2, multiprocessing_context=start)
    found = torch.cat(list(loader))
    assert torch.equal(found, torch.stack([pictures[i] for i in range(8)]))


def test_threads_may_create_networks_at_once() -> None:
    """Weights are loaded without initialising: that must not reach a network that another thread builds."""
    trained = zoo.create("resnet20.digits").state_dict()

    def build(number: int) -> bool:
        if number % 2:
            state = zoo.create("resnet20.digits").state_dict()
            return all(torch.equal(state[key], tensor) for key, tensor in trained.items())
        weight = zoo.create("resnet20").conv1.weight  # drawn from N(0, 2 / fan out), fan out 9 x 16
        return 0.5 < float(weight.detach().std()) * (9 * 16 / 2) ** 0.5 < 1.5

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(build, range(64)))


def test_a_residual_network_is_traced_symbolically() -> None:
    model = zoo.create("resnet20.digits").eval()
    assert equal(torch.fx.symbolic_trace(model), model, inputs(model, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES[:-1], pytest.param(NAMES[-1], marks=pytest.mark.slow)])
def test_compilation_captures_the_whole_network_as_one_graph(name: str) -> None:
    model = zoo.create(name).eval()
    x = inputs(model, 2)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.first(1)
@pytest.mark.parametrize("name", ["googlenet_small_naive", "inception_v3", "inception_resnet_v1", "vgg11"])
def test_torchvision_extracts_features_of_networks_that_look_at_their_input(name: str) -> None:
    """Its extractor traces by torch.fx, to which values and sizes are unknown."""
    extraction = pytest.importorskip("torchvision.models.feature_extraction", reason="needs torchvision")
    torch.manual_seed(0)
    model = zoo.create(name).eval()
    stage = str(model.feature_info[-1]["module"])
    side = max(model.zoo_info.preprocess.input_size[1] // 2, 32) if "vgg" not in name else 224
    images = torch.rand(2, 3, side, side)
    with torch.no_grad():
        extracted = extraction.create_feature_extractor(model, [stage])(images)[stage]
        expected = model.forward_intermediates(images, indices=1, intermediates_only=True)[0]
    assert torch.equal(extracted, expected)
