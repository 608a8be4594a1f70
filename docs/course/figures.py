"""Writes the figures of the Japanese chapters: ``python docs/course/figures.py FONT.ttf``.

It runs the code and the commands of each chapter, which are the same in both languages, and puts Japanese words in the
place of the English ones while Matplotlib draws. FONT is a font file with Japanese letters, such as IPAexGothic.
Figures without words are those of the English chapters.
"""

import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

from matplotlib import font_manager, rcParams
from matplotlib.text import Text
from PIL import Image

from zoo.cli import cli

HERE = Path(__file__).parent
FOLDER = HERE / "figures" / "ja"
CHAPTERS = (
    "01-cells", "03-alexnet", "04-zfnet", "05-vgg", "06-googlenet", "07-normalisation", "08-resnet", "09-densenet",
    "10-fractalnet", "11-ror", "12-invariance", "14-looking", "15-fooling",
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
    "(.*), first layer: (.*) filters of (.*), below each the nearest Gabor filter and its residual": (
        r"\1 の第1層: \3 のフィルタ\2個、その下に最も近いガボールフィルタと残差"
    ),
    "direction of the wave, degrees": "波の向き、度",
    "filters": "フィルタの数",
    "share of filters": "フィルタの割合",
    r"residual of the nearest Gabor filter \(norm\)": "最も近いガボールフィルタとの残差のノルム",
    "the network's": "このネットワーク",
    "noise": "雑音",
    r"(.*) on (.*) images of (.*), transformed \(95% intervals\)": r"\1: \3 の画像\2枚を変換（95%信頼区間）",  # noqa: RUF001
    "rotation": "回転",
    "degrees, counter-clockwise": "角度（反時計回り）",  # noqa: RUF001
    "top-1, %": "トップ1、%",
    "similarity of features": "特徴の類似度",
    "(.*), logits: images that maximise a channel": r"\1 のロジットを最大にする画像",
    "airplane": "飛行機",
    "automobile": "自動車",
    "horse": "馬",
    "ship": "船",
    "(.*): grad_cam at (.*)\npasses: its maps change when upper layers are random": (
        r"\1: \2 の Grad-CAM\n検査に合格: 上の層をランダムにするとマップが変わる"
    ),
    r"epsilon \(of 255\)": "イプシロン（255分の）",  # noqa: RUF001
    "right, %": "正解率、%",
    r"(.*) images of (.*) \((.*)\); bars: 95%; (.*)": r"\2 の画像\1枚（\3）、棒は95%信頼区間、\4",  # noqa: RUF001
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
            for kind, code in re.findall(r"^```(python|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
                if kind == "python":
                    exec(compile(code, name, "exec"), {})
                for line in code.replace("\\\n", "").splitlines() if kind == "console" else ():
                    dollar, _, *words = shlex.split(line)
                    if dollar == "$" and "-o" in words:
                        cli.main(words, standalone_mode=False)
            for file in Path(folder).glob("*.png"):
                small = Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE, colors=128)
                small.save(FOLDER / file.name, optimize=True)
            os.chdir(HERE)


if __name__ == "__main__":
    main(sys.argv[1])
