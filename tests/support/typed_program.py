"""What a user writes, for type checkers: ``test_public`` has mypy check it. Nothing here is run."""

from pathlib import Path

from torch import Tensor, nn, optim

import zoo
from zoo import Model, Network, Plugin


def with_five_classes(name: str) -> Network:
    model = zoo.create(name, pretrained=True, device="cpu")
    model.reset_classifier(5)
    optim.SGD(model.parameters(), lr=0.1).step()
    return model.eval()


def misspelt(model: Network) -> None:
    model.reset_classifer(5)  # type: ignore[operator]  # mypy --strict fails if this is no error


def features(model: Network, images: Tensor) -> Tensor:
    stages: list[str] = [str(stage["module"]) for stage in model.feature_info]
    assert model.num_features > 0
    assert len(stages) > 0
    return model.forward_head(model.forward_features(images), pre_logits=True)


def classify(model: Network, files: list[Path]) -> list[str]:
    return [ranked[0].class_name for ranked in zoo.predict(model, files, topk=1)]


def as_torch(model: Network) -> nn.Module:
    return nn.Sequential(model, nn.Softmax(dim=1))


def main() -> None:
    plugin = Plugin("mine", api=1, models=(Model("my_net", build="__main__:build"),))
    with zoo.register(plugin):
        names: list[str] = zoo.list_models("my_*")
        model = zoo.create(names[0])
    weights: str = model.zoo_info.name
    trained: Network = zoo.train("resnet20", "digits", output="run", settings={"epochs": 1})
    try:
        top1: float = zoo.evaluate(trained, zoo.data.load("digits", "test")).top1
    except (zoo.HubError, zoo.errors.DataError) as error:
        raise SystemExit(error.hint) from error
    print(
        weights,
        top1,
        zoo.registry.current().plugins,
        zoo.preprocess(trained),
        zoo.evaluation.versions(),
        zoo.training.Recipe,
    )
