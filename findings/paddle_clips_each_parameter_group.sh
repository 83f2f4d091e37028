#!/usr/bin/env bash
# Paddle's ClipGradByGlobalNorm clips each parameter group alone.
#
# Expected: the global norm is computed over all parameters of the optimizer, so groups (for two learning rates, or with
#   and without weight decay) change nothing about clipping. So it is with torch's clip_grad_norm_(model.parameters()).
# Happens: paddlepaddle 3.3.1 computes one norm per group and scales each group by its own. Gradients that are clipped to
#   a norm of 1 together have a norm of up to sqrt(groups), and their direction changes.
# Matters: a script that puts biases into a second group trains with other gradients than before: the small group is
#   not clipped at all. With layer-wise learning rates (a group per layer) a limit of 1 is hardly a limit.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import paddle

print("paddle", paddle.__version__)


def steps(grouped):
    """The steps of SGD with learning rate 1, so the clipped gradients of a weight and a bias."""
    layer = paddle.nn.Linear(4, 1)
    weight, bias = layer.weight, layer.bias
    before = weight.clone()
    groups = [{"params": [weight]}, {"params": [bias]}] if grouped else [weight, bias]
    optimizer = paddle.optimizer.SGD(1.0, parameters=groups, grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0))
    (3 * weight.sum() + 0.5 * bias.sum()).backward()  # norms: 6 and 0.5
    optimizer.step()
    step = paddle.concat([(weight - before).flatten(), bias])
    norm = float(step.norm())
    print(f"{'two groups' if grouped else 'one group '}: clipped to a norm of {norm:.3f}, the bias's gradient is {-float(bias):.3f}")
    return norm, -float(bias)


(one, bias_in_one), (two, bias_in_two) = steps(grouped=False), steps(grouped=True)
assert abs(one - 1) < 1e-5 and abs(bias_in_one - 0.5 / (36 + 0.25) ** 0.5) < 1e-5
assert abs(two - 1.25**0.5) < 1e-5 and abs(bias_in_two - 0.5) < 1e-6
PY
