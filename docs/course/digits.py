"""Writes the classifier and the digits that chapter 15 attacks in the page: ``python docs/course/digits.py``.

A softmax over a linear map of the 64 pixels, trained on the 1,437 training images of digits. Its gradient is a closed
form, so the page needs no library.
"""

import json
from pathlib import Path

from sklearn.linear_model import LogisticRegression

import zoo.data

FILE = Path(__file__).parents[1] / "javascripts" / "digits.js"


def classifier() -> dict[str, object]:
    """Returns weights, biases, accuracy on the test images in per cent, and a test image of each class."""
    sets = [zoo.data.load("digits", split=split) for split in ("train", "test")]
    (images, labels), (tests, answers) = ((one.pixels.flatten(1).numpy() / 255, one.labels.numpy()) for one in sets)
    model = LogisticRegression(max_iter=1000).fit(images, labels)
    chosen = [answers.tolist().index(digit) for digit in range(10)]
    return {
        "weights": model.coef_.round(3).tolist(),
        "biases": model.intercept_.round(3).tolist(),
        "accuracy": round(100 * float(model.score(tests, answers)), 1),
        "images": (tests[chosen] * 255).round().astype(int).tolist(),
    }


if __name__ == "__main__":
    FILE.write_text(
        "// Written by docs/course/digits.py. Images: Optical Recognition of Handwritten Digits by E. Alpaydin and\n"
        "// C. Kaynak, CC BY 4.0, as scikit-learn has them.\n"
        f"window.zooDigits = {json.dumps(classifier())};\n",
        encoding="utf-8",
    )
