"""Writes the figures of the Japanese chapters: ``python docs/course/figures.py FONT.ttf``.

It runs the code of each chapter, which is the same in both languages, and puts Japanese words in the place of the
English ones while Matplotlib draws. FONT is a font file with Japanese letters, such as IPAexGothic. Figures that
commands draw, and those without words, are those of the English chapters.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

from matplotlib import font_manager, rcParams
from matplotlib.text import Text
from PIL import Image

HERE = Path(__file__).parent
FOLDER = HERE / "figures" / "ja"
CHAPTERS = (
    "04-zfnet", "05-vgg", "06-googlenet", "07-normalisation", "08-resnet", "09-densenet", "10-fractalnet", "11-ror",
)  # fmt: skip
WORDS = {
    "stride (.*)": r"ストライド \1",
    "pixels": "画素",
    "one large filter": "一つの大きなフィルタ",
    "a stack of 3x3 filters": "3x3のフィルタの積み重ね",
    "pixels seen": "見る画素",
    "parameters / C²": "パラメータ / C²",
    "million parameters": "パラメータ（百万）",  # noqa: RUF001
    "step": "ステップ",
    "loss": "損失",
    "without normalisation": "正規化なし",
    "with batch normalisation": "バッチ正規化あり",
    "layers": "層の数",
    "test error, %": "テスト誤差、%",
    "layer": "層",
    "channels": "チャネル数",
    "(.*): new channels": r"\1: 加えるチャネル",
    "(.*): channels that a layer sees": r"\1: 層が見るチャネル",
    "C = (.*): depth (.*)": r"C = \1: 深さ \2",
    "norm of the gradient": "勾配のノルム",
}
"""Japanese words for a whole text of a figure, by a pattern."""


def japanese(text: str) -> str:
    """Returns a text of a figure in Japanese; what no pattern fits stays."""
    for pattern, words in WORDS.items():
        if re.fullmatch(pattern, text):
            return re.sub(pattern, words, text)
    return text


def main(font: str) -> None:
    font_manager.fontManager.addfont(font)
    rcParams["font.family"] = [font_manager.FontProperties(fname=font).get_name(), "DejaVu Sans"]
    rcParams["axes.unicode_minus"] = False
    set_text = Text.set_text

    def translated(self: Text, text: object) -> None:
        set_text(self, japanese(text) if isinstance(text, str) else text)

    Text.set_text = translated  # type: ignore[method-assign]
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[2:] or CHAPTERS:
        text = (HERE / f"{name}.md").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            for code in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
                exec(compile(code, name, "exec"), {})
            for file in Path(folder).glob("*.png"):
                small = Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE, colors=128)
                small.save(FOLDER / file.name, optimize=True)
            os.chdir(HERE)


if __name__ == "__main__":
    main(sys.argv[1])
