"""On CPUs: a backward of linear layers and layer norms whose sums over rows and columns are matrix products.

Paddle's CPU kernels sum on one thread and without vector instructions; a product with ones is the same sum. The model
stays as it is, and the forward pass is Paddle's own. Gradients are the same up to rounding. In linear layers only the
gradient of the bias differs, by the order of its sum.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import paddle


@contextmanager
def sums_as_products(model: paddle.nn.Layer) -> Iterator[None]:
    """What the model computes in float32 inside this context has this backward pass, whenever it runs."""
    changed = []
    for layer in model.sublayers():
        backward = _BACKWARD.get(type(layer))
        if backward and layer.weight is not None and layer.bias is not None and layer.weight.dtype == paddle.float32:
            layer.forward = partial(_applied, backward, layer, layer.forward)
            changed.append(layer)
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward


def _applied(backward: Any, layer: paddle.nn.Layer, forward: Any, given: paddle.Tensor) -> paddle.Tensor:
    learns = paddle.is_grad_enabled() and not given.stop_gradient
    return backward.apply(given, layer.weight, layer.bias, forward) if learns else forward(given)


def _sum_of_rows(values: paddle.Tensor) -> paddle.Tensor:
    """[columns] of [rows, columns]."""
    return paddle.matmul(paddle.ones([1, values.shape[0]], values.dtype), values).flatten()


class _Linear(paddle.autograd.PyLayer):
    @staticmethod
    def forward(context: Any, given: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, forward: Any) -> Any:
        context.save_for_backward(given, weight)
        return forward(given)

    @staticmethod
    def backward(context: Any, gradient: paddle.Tensor) -> tuple:
        given, weight = context.saved_tensor()
        rows, of_rows = given.flatten(0, -2), gradient.flatten(0, -2)
        of_given = paddle.matmul(of_rows, weight, transpose_y=True).reshape(given.shape)
        return of_given, paddle.matmul(rows, of_rows, transpose_x=True), _sum_of_rows(of_rows)


class _LayerNorm(paddle.autograd.PyLayer):
    @staticmethod
    def forward(context: Any, given: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, forward: Any) -> Any:
        context.save_for_backward(given, weight)
        context.epsilon = forward.__self__._epsilon
        return forward(given)

    @staticmethod
    def backward(context: Any, gradient: paddle.Tensor) -> tuple:
        """With x̂ = (x − mean) / deviation and g the gradient of x̂: (g − mean g − x̂ mean(g x̂)) / deviation."""
        given, weight = context.saved_tensor()
        rows, of_rows = given.flatten(0, -2), gradient.flatten(0, -2)
        mean = paddle.full([rows.shape[1], 1], 1 / rows.shape[1], rows.dtype)  # a product with it: of each row
        centred = rows - paddle.matmul(rows, mean)
        scale = paddle.rsqrt(paddle.matmul(centred * centred, mean) + context.epsilon)
        normal, weighted = centred * scale, weight.unsqueeze(1) * mean
        projected = of_rows * normal
        of_given = of_rows * weight - paddle.matmul(of_rows, weighted) - normal * paddle.matmul(projected, weighted)
        return (of_given * scale).reshape(given.shape), _sum_of_rows(projected), _sum_of_rows(of_rows)


_BACKWARD = {paddle.nn.Linear: _Linear, paddle.nn.LayerNorm: _LayerNorm}
