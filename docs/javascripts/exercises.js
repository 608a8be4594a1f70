// Written by docs/course/exercises.py.
window.zooExercises = {
 "cells": {
  "answer": 0.214041,
  "within": 0.015,
  "hint": {
   "en": "Run: zoo look filters alexnet_small.c10. The distance of random filters is printed beside it; do not confuse the two.",
   "ja": "zoo look filters alexnet_small.c10 を実行してください。隣に表示されるランダムなフィルタの距離と取り違えないようにしましょう。"
  }
 },
 "features": {
  "answer": 324.0,
  "within": 0.0,
  "hint": {
   "en": "Each class has 3,250 / 10 parameters, and one of them is the constant. Compare with 9 orientations x 4 cells x 9 blocks.",
   "ja": "各クラスのパラメータは 3,250 / 10 個で、そのうち一つが定数です。9方向 x 4セル x 9ブロックと比べてください。"
  }
 },
 "alexnet": {
  "answer": 96.171457,
  "within": 0.6,
  "hint": {
   "en": "The layers map 9,216 numbers to 4,096, to 4,096, to 1,000. Add a bias per output, and divide by the 60,965,224 parameters of zoo info alexnet.",
   "ja": "三つの層は、9,216個の数を4,096個に、4,096個に、1,000個にします。出力ごとのバイアスを加え、zoo info alexnet が表示する60,965,224個で割ります。"
  }
 },
 "zfnet": {
  "answer": 8.0,
  "within": 0.0,
  "hint": {
   "en": "A wave needs two samples per period (Nyquist). How many pixels apart are two outputs?",
   "ja": "一つの波には、1周期に二つの標本が必要です（ナイキスト）。隣り合う出力は何画素離れているでしょうか。"
  }
 },
 "vgg": {
  "answer": 0.55102,
  "within": 0.006,
  "hint": {
   "en": "A k x k convolution from C to C channels has k * k * C * C parameters. Three of 3x3 have 3 * 9 * C * C; divide by those of 7x7.",
   "ja": "CチャネルからCチャネルへの k x k の畳み込みのパラメータは k * k * C * C 個です。3 x 3 が三つで 3 * 9 * C * C 個、これを 7 x 7 の個数で割ります。"
  }
 },
 "googlenet": {
  "answer": 13.935169,
  "within": 0.06,
  "hint": {
   "en": "zoo info googlenet and zoo info googlenet_naive print the parameters. Divide the larger number by the smaller.",
   "ja": "zoo info googlenet と zoo info googlenet_naive がパラメータの数を表示します。大きいほうを小さいほうで割ります。"
  }
 },
 "normalisation": {
  "answer": 1.76,
  "within": 0.05,
  "hint": {
   "en": "zoo list 'vgg16*.tv_in1k' prints both scores. Subtract the one without normalisation.",
   "ja": "zoo list 'vgg16*.tv_in1k' が両方のスコアを表示します。正規化のないほうを引きます。"
  }
 },
 "resnet": {
  "answer": 11.7435,
  "within": 0.05,
  "hint": {
   "en": "zoo list '*56.c10' prints both scores. Both networks have the same layers and the same recipe.",
   "ja": "zoo list '*56.c10' が両方のスコアを表示します。二つのネットワークは、層も学習の手順も同じです。"
  }
 },
 "densenet": {
  "answer": 1.53145,
  "within": 0.05,
  "hint": {
   "en": "zoo info densenet_bc_40_12 and zoo info resnet20 print the parameters. Divide those of resnet20 by those of the DenseNet.",
   "ja": "zoo info densenet_bc_40_12 と zoo info resnet20 がパラメータの数を表示します。resnet20 の数を DenseNet の数で割ります。"
  }
 },
 "fractalnet": {
  "answer": 35.0,
  "within": 0.0,
  "hint": {
   "en": "Its depth counts only the longest path, 5 * 4. Count the other columns of each block too.",
   "ja": "深さとして数えるのは最も長い経路の 5 * 4 だけです。各ブロックのほかの列も数えてください。"
  }
 },
 "ror": {
  "answer": 4192.0,
  "within": 0.0,
  "hint": {
   "en": "zoo info ror3_56 and zoo info resnet56 print the parameters. Subtract.",
   "ja": "zoo info ror3_56 と zoo info resnet56 がパラメータの数を表示します。引き算をしてください。"
  }
 },
 "invariance": {
  "answer": 1.224299,
  "within": 0.03,
  "hint": {
   "en": "zoo list '*.mnist_rot' prints the accuracies. The errors are 100 less the accuracy; divide them.",
   "ja": "zoo list '*.mnist_rot' が精度を表示します。誤りは100から精度を引いたものです。それを割り算します。"
  }
 },
 "targetprop": {
  "answer": 98.349699,
  "within": 0.006,
  "hint": {
   "en": "zoo info dtp_mlp.mnist prints the interval. The paper has 98.14% for backpropagation with the same network: is that inside?",
   "ja": "zoo info dtp_mlp.mnist が区間を表示します。論文では、同じネットワークの誤差逆伝播法が98.14%です。区間の中にあるでしょうか。"
  }
 },
 "looking": {
  "answer": 15.0,
  "within": 0.0,
  "hint": {
   "en": "Three layers: a 5x5 convolution, a pool of 3x3 with stride 2, a convolution. Or ask zoo.look.receptive_field(\"alexnet_small.c10\", \"features.4\").rows(0).",
   "ja": "層は三つです。5 x 5 の畳み込み、ストライド2で 3 x 3 のプーリング、畳み込み。または zoo.look.receptive_field(\"alexnet_small.c10\", \"features.4\").rows(0) で調べられます。"
  }
 },
 "fooling": {
  "answer": 31.0,
  "within": 0.0,
  "hint": {
   "en": "Run zoo attack curve resnet20.digits --data digits --attack fgsm --epsilons 16/255,24/255,32/255, then narrow the range. Answer with the number of steps.",
   "ja": "zoo attack curve resnet20.digits --data digits --attack fgsm --epsilons 16/255,24/255,32/255 を実行し、範囲を狭めてください。答えは 1/255 の個数です。"
  }
 }
};
