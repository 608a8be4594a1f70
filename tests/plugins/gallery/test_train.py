"""The page in which a network trains: its gradients are torch's, and it learns."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import gallery_digits
from torch import Tensor, nn

SAME = 1e-9
"""Both compute in double precision."""

STEPS = """async ([shape, parameters, images, labels, rate, momentum, steps]) => {
  const { networkFor, descend } = await import(new URL("assets/network.mjs", document.baseURI).href);
  const network = networkFor(shape);
  for (const name of Object.keys(parameters)) parameters[name] = Float64Array.from(parameters[name]);
  const rows = images.map((image) => Float64Array.from(image));
  const logits = [...network.logits(parameters, rows[0])];
  const maps = network.maps(parameters, rows[0]).map((map) => [...map]);
  const velocities = network.zeros();
  const losses = [];
  let first = null;
  for (let step = 0; step < steps; step++) {
    const { loss, gradients } = network.lossAndGradients(parameters, rows, labels);
    first ??= Object.fromEntries(Object.entries(gradients).map(([name, values]) => [name, [...values]]));
    losses.push(loss);
    descend(parameters, velocities, gradients, rate, momentum);
  }
  const last = Object.fromEntries(Object.entries(parameters).map(([name, values]) => [name, [...values]]));
  return { logits, maps, losses, gradients: first, parameters: last };
}"""


class Net(nn.Module):
    """What the page describes, in PyTorch."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 12, 5, padding=2)
        self.linear = nn.Linear(12 * (side // 2) ** 2, 10)

    def maps(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.conv(x)), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.maps(x).flatten(1))


def test_the_file_of_digits_has_the_images_and_labels_of_zoo_data() -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    assert gallery_digits.FILE.read_bytes() == gallery_digits.packed()


@pytest.mark.may_skip
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 16)])
def test_gradients_and_steps_of_the_script_are_those_of_torch(
    page: Any, address: str, channels: int, side: int
) -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(24, channels, side, side, dtype=torch.float64) - 0.3, torch.randint(10, (24,))
    net = Net(channels, side).double()
    page.goto(f"{address}train.html")
    parameters = {name: value.flatten().tolist() for name, value in net.state_dict().items()}
    shape = {"channels": channels, "side": side}
    outcome = page.evaluate(STEPS, [shape, parameters, images.flatten(1).tolist(), labels.tolist(), 0.1, 0.9, 5])

    expected = net.maps(images[:1])[0].flatten(1).detach()
    assert torch.tensor(outcome["maps"], dtype=torch.float64).allclose(expected, atol=SAME)
    assert torch.tensor(outcome["logits"]).allclose(net(images)[0].float(), atol=1e-6)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for step in range(5):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        assert outcome["losses"][step] == pytest.approx(loss.item(), abs=SAME)
        if step == 0:
            for name, parameter in net.named_parameters():
                ours = torch.tensor(outcome["gradients"][name], dtype=torch.float64).view_as(parameter)
                assert (ours - parameter.grad).abs().max() < SAME, name
        optimizer.step()
    for name, value in net.state_dict().items():
        ours = torch.tensor(outcome["parameters"][name], dtype=torch.float64).view_as(value)
        assert (ours - value).abs().max() < SAME, name


@pytest.mark.may_skip
def test_the_network_of_the_page_reads_90_per_cent_within_five_epochs(page: Any, address: str) -> None:
    page.goto(f"{address}train.html")
    page.get_by_role("status").get_by_text("Ready to train.").wait_for()
    before = page.locator("#filters canvas").first.evaluate("(one) => one.toDataURL()")
    page.get_by_role("button", name="Start").click()
    page.locator("#epochs tr:nth-child(5)").wait_for(state="attached")
    page.get_by_role("button", name="Pause").click()
    cells = page.locator("#epochs td:last-child").all_text_contents()
    accuracy = [float(text.rstrip("%")) for text in cells]
    assert len(accuracy) >= 5
    assert accuracy[4] >= 90
    assert page.locator("#filters canvas").first.evaluate("(one) => one.toDataURL()") != before
    shown = page.locator("#step").inner_text()
    page.wait_for_timeout(100)
    assert page.locator("#step").inner_text() == shown, "a paused training takes no steps"


@pytest.mark.may_skip
def test_a_reset_starts_again_and_repeats_the_training(page: Any, address: str) -> None:
    page.goto(f"{address}train.html")
    runs = []
    for _ in range(2):
        page.get_by_role("button", name="Start").click()
        page.locator("#epochs tr").first.wait_for(state="attached")
        runs.append(page.locator("#epochs tr").first.text_content())
        page.get_by_role("button", name="Reset").click()
        assert page.locator("#step").inner_text() == "0"
        assert page.locator("#epochs tr").count() == 0
    assert runs[0] == runs[1] != ""
