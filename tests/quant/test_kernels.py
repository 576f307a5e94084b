"""Every implementation of the kernels against plain PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from glmtui.models.base import Rotary
from glmtui.models.layers import RotaryEmbedding
from glmtui.quant import cpu, formats, linear
from glmtui.quant.cpu import Matrix
from glmtui.quant.linear import QuantizedLinear, round_activations

SHAPES = [(1, 1), (16, 128), (33, 200), (48, 1000), (7, 13696), (64, 4224)]
TOKENS = (1, 2, 3, 5, 12, 13, 31)


def pack(kind: str, weight: torch.Tensor) -> formats.Packed:
    bits = 8 if "8" in kind else 4
    if kind.startswith("own"):
        return formats.quantize(weight, bits)
    columns = weight.shape[1]
    padded = F.pad(weight, (0, columns % 2))  # the published INT4 packs pairs of columns
    return formats.pack_published(*formats.quantize_published(padded, bits), columns=padded.shape[1])


def check(kernels, packed: formats.Packed, x: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    found = kernels.multiply(Matrix.of(packed, bias), x)
    expected = F.linear(
        round_activations(x).double(),
        packed.dequantize(dtype=torch.float64),
        None if bias is None else bias.double(),
    )
    # An activation half-way between two bytes may go either way.
    torch.testing.assert_close(
        found.double(), expected, rtol=0, atol=2e-3 * expected.abs().max().item() + 1e-30
    )
    assert (found.double() - expected).norm() <= 3e-4 * expected.norm() + 1e-30


@pytest.mark.parametrize("kind", ["own 8", "own 4", "published 8", "published 4"])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_products(kernels, kind, rows, columns):
    packed = pack(kind, torch.randn(rows, columns))
    bias = torch.randn(rows)
    for tokens in TOKENS:
        check(kernels, packed, torch.randn(tokens, packed.columns), bias)


@pytest.mark.parametrize("kind", ["own 8", "own 4", "published 8", "published 4"])
def test_extreme_integers_do_not_overflow(kernels, kind):
    """All products of one sign and of the largest size: where 16 bits are not enough."""
    bits = 8 if "8" in kind else 4
    for sign in (1, -1):
        weight = torch.full((16, 512), float(sign))
        packed = pack(kind, weight)
        if bits == 8:  # -128 is never written by the published code, but a file may hold it
            packed.values.fill_(0x80 if sign < 0 else 0x7F)
        else:  # -8 or 7 everywhere, at the largest factor
            packed.values.fill_(0x00 if sign < 0 else 0xFF)
            if packed.factors is not None:
                packed.factors.fill_(0xFF)
        for tokens in (1, 4, 13, 19):
            check(kernels, packed, torch.full((tokens, 512), -1.0))
            check(kernels, packed, torch.ones(tokens, 512))
            check(kernels, packed, torch.tensor([1.0, -1.0]).repeat(tokens, 256))
            # The same within a sub-group of 32 columns, and the opposite in the next one.
            check(kernels, packed, torch.tensor([1.0, -1.0]).repeat_interleave(32).repeat(tokens, 8))


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_two_planes(kernels, rows, columns):
    """Few tokens take the high plane, and the low one for some blocks; more take both."""
    weight, bias = torch.randn(rows, columns), torch.randn(rows)
    packed, whole = formats.quantize(weight, 8, planes=True), formats.quantize(weight, 8)
    assert torch.equal(packed.dequantize(), whole.dequantize())
    x = torch.randn(kernels.few + 1, columns)
    check(kernels, packed, x, bias)
    matrix, few = Matrix.of(packed, bias), x[:3]
    expected = kernels.multiply(Matrix.of(whole, bias), few)
    coarse = kernels.multiply(matrix, few)
    scale = whole.dequantize().abs().amax() / 127
    assert ((coarse - expected).abs().amax(1) <= 8 * scale * few.abs().sum(1) + 1e-4).all()
    refined, count = coarse.clone(), packed.values.shape[0]
    blocks = torch.stack([torch.randperm(count)[: 1 + count // 2] for _token in few])
    kernels.refine(matrix, few, blocks, refined)
    for token, chosen in enumerate(blocks):
        exact = torch.isin(torch.arange(rows) // formats.BLOCK, chosen)
        torch.testing.assert_close(refined[token, exact], expected[token, exact], rtol=1e-4, atol=1e-4)
        assert torch.equal(refined[token, ~exact], coarse[token, ~exact])
        alone = coarse[token : token + 1].clone()
        kernels.refine(matrix, few[token : token + 1], chosen[None], alone)
        assert torch.equal(alone[0], refined[token])


def test_extreme_integers_in_two_planes(kernels):
    for byte in (-127, -1, 0, 1, 15, 16, 127):
        packed = formats.quantize(torch.ones(16, 256), 8, planes=True)
        whole = torch.full((1, 2, 2048), byte, dtype=torch.int8).view(torch.uint8)
        for target, plane in zip((packed.values, packed.low), formats.split_planes(whole), strict=True):
            target.copy_(plane)
        for x in (torch.ones(1, 256), -torch.ones(1, 256)):
            out = kernels.multiply(Matrix.of(packed, None), x)
            kernels.refine(Matrix.of(packed, None), x, torch.tensor([[0]]), out)
            expected = x.double() @ packed.dequantize(dtype=torch.float64).T
            torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_likeliest_tokens_have_the_logits_of_int8(kernels, monkeypatch):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    monkeypatch.setattr(linear, "REFINED", 8)
    weight = torch.randn(4000, 256)
    layer = QuantizedLinear(formats.quantize(weight, 8, planes=True))
    expected = QuantizedLinear(formats.quantize(weight, 8))
    x = torch.randn(kernels.few + 1, 256)
    torch.testing.assert_close(layer(x), expected(x), rtol=1e-4, atol=1e-3)
    for row in x:
        found, other = layer(row), expected(row)
        assert found.argmax() == other.argmax()
        torch.testing.assert_close(found.topk(4).values, other.topk(4).values, rtol=1e-4, atol=1e-3)
        assert (found - other).norm() < 0.2 * other.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_half_precision_weights(kernels, dtype, rows, columns):
    """Products in float32 of weights as they are; each token's is to the bit that of the token alone."""
    weight, x = torch.randn(rows, columns).to(dtype), torch.randn(17, columns)
    alone = torch.cat([kernels.multiply_halves(weight, row[None]) for row in x])
    expected = x.double() @ weight.double().T
    torch.testing.assert_close(alone.double(), expected, rtol=1e-5, atol=1e-5 * columns**0.5)
    for tokens in range(1, 18):
        assert torch.equal(kernels.multiply_halves(weight, x[:tokens].contiguous()), alone[:tokens])


def words(x: torch.Tensor) -> torch.Tensor:
    """Return `x` as the products with many tokens round it: to words with a scale for 256 columns."""
    pieces = [piece.float() for piece in x.split(256, dim=1)]
    scales = [piece.abs().amax(dim=1, keepdim=True) / 2895 for piece in pieces]
    rounded = [
        (piece * scale.reciprocal()).nan_to_num(0).round()
        for piece, scale in zip(pieces, scales, strict=True)
    ]
    return torch.cat([r.double() * scale for r, scale in zip(rounded, scales, strict=True)], dim=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (25, 257), (100, 512), (7, 1000)])
@pytest.mark.parametrize("tokens", [1, 17, 40, 513])
def test_half_precision_weights_with_many_tokens(kernels, dtype, rows, columns, tokens):
    """One row and column more than what is done together, and more tokens: none reads what is not its own."""
    weight, x = torch.randn(rows, columns).to(dtype), torch.randn(tokens, columns)
    found = kernels.multiply_many_halves(weight, x)
    # A number between two words may be rounded to either.
    torch.testing.assert_close(
        found.double(), words(x) @ words(weight).T, rtol=1e-3, atol=2e-3 * columns**0.5
    )
    alone = kernels.multiply_many_halves(weight, x[-1:].contiguous())
    assert torch.equal(found[-1:], alone), "to the bit"


def test_products_with_many_tokens_lose_less_than_bfloat16_does(kernels):
    """Also where some columns are far larger than the others, as in the streams of real models."""
    weight, x = (torch.randn(300, 1408) * 0.02).bfloat16(), torch.randn(64, 1408)
    for outliers in (1.0, 30.0):
        x[:, ::97] *= outliers
        exact = x.double() @ weight.double().T
        found = kernels.multiply_many_halves(weight, x).double()
        rounded = x.bfloat16().double() @ weight.double().T
        assert (found - exact).norm() < (rounded - exact).norm()


def test_the_largest_words_do_not_overflow(kernels):
    weight, x = torch.full((3, 512), -3.0, dtype=torch.bfloat16), torch.full((40, 512), 2.0)
    torch.testing.assert_close(kernels.multiply_many_halves(weight, x), torch.full((40, 3), -3072.0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none_and_its_own(kernels, bad):
    weight, x = torch.randn(9, 300).half(), torch.randn(40, 300)
    right = kernels.multiply_many_halves(weight, x)
    x[5, 299] = bad
    found = kernels.multiply_many_halves(weight, x)
    assert not found[5].isfinite().any()
    assert torch.equal(found[:5], right[:5])
    assert torch.equal(found[6:], right[6:])
    x[5], weight[4, 2] = 0.0, bad
    assert not kernels.multiply_many_halves(weight, x)[:, 4].isfinite().any()


def test_words_of_zeros_and_of_the_smallest_numbers(kernels):
    weight, x = torch.randn(9, 300).half(), torch.zeros(40, 300)
    x[1] = 1e-38
    assert (kernels.multiply_many_halves(weight, x).abs() < 1e-30).all()
    assert (kernels.multiply_many_halves(torch.zeros_like(weight), x + 1) == 0).all()


def test_zeros_and_outliers(kernels):
    weight = torch.randn(40, 384)
    weight[5] = 0
    packed = formats.quantize(weight, 4)
    x = torch.randn(14, 384)
    x[0] = 0
    x[1, 7] = 1e4  # spoils its own group of columns only
    x[2] *= 1e-20
    x[3] *= 1e20
    for rows in (x, x[:1], x[1:2], x[2:3], x[3:4]):
        check(kernels, packed, rows)
    assert (kernels.multiply(Matrix.of(packed, None), x)[:, 5] == 0).all()
    assert (kernels.multiply(Matrix.of(packed, None), x)[0] == 0).all()


def test_no_tokens(kernels):
    packed = formats.quantize(torch.randn(3, 5), 8)
    assert kernels.multiply(Matrix.of(packed, None), torch.empty(0, 5)).shape == (0, 3)


def test_results_do_not_depend_on_threads(kernels):
    packed = formats.quantize(torch.randn(1000, 512), 4)
    x = torch.randn(40, 512)
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        matrix = Matrix.of(packed, None)
        results.append((kernels.multiply(matrix, x), kernels.multiply(matrix, x[:1])))
    for many, one in results[1:]:
        assert torch.equal(many, results[0][0])
        assert torch.equal(one, results[0][1])


@pytest.mark.parametrize("kind", ["own 8", "own 4", "published 8", "published 4"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (50, 640), (33, 200), (16, 4224)])
def test_tokens_get_together_what_they_get_alone(kernels, kind, rows, columns):
    """To the bit, for few tokens and many, however they are cut into tiles."""
    packed, bias = pack(kind, torch.randn(rows, columns)), torch.randn(rows)
    x = torch.randn(31, packed.columns) * torch.randn(31, 1).exp()
    matrix = Matrix.of(packed, bias)
    alone = torch.cat([kernels.multiply(matrix, row[None]) for row in x])
    for tokens in (*range(1, 18), 31):
        assert torch.equal(kernels.multiply(matrix, x[:tokens].contiguous()), alone[:tokens])


def test_few_tokens_get_together_the_logits_they_get_alone(kernels, monkeypatch):
    """Also where only the likeliest are exact, of an output layer in two planes."""
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    monkeypatch.setattr(linear, "REFINED", 8)
    layer = QuantizedLinear(formats.quantize(torch.randn(1000, 256), 8, planes=True))
    x = torch.randn(16, 256)
    alone = torch.cat([layer(row[None]) for row in x])
    for tokens in range(1, 17):
        assert torch.equal(layer(x[:tokens]), alone[:tokens])


def test_quantising_is_as_good_as_in_pytorch(kernels, monkeypatch):
    weight = torch.randn(64, 700) * torch.randn(64, 1).exp() * 1e-2
    weight[9] = 0
    weight[10, :32] = 0
    monkeypatch.setattr(cpu, "load", lambda: None)
    expected = formats.quantize(weight, 4)
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    found = formats.quantize(weight, 4)
    assert torch.equal(found.scales, expected.scales)
    different = (found.dequantize() != expected.dequantize()).float().mean()
    assert different < 1e-3  # where two factors are equally good, or a weight lies half-way
    torch.testing.assert_close(
        (found.dequantize() - weight).norm(), (expected.dequantize() - weight).norm(), rtol=1e-4, atol=0
    )


def test_gelu_and_swiglu(kernels):
    x = torch.cat(
        [torch.randn(3, 9000) * 4, torch.tensor([-1e9, -100, -1, 0, 1, 100, 1e9, 3e38]).repeat(3, 1)], 1
    )
    torch.testing.assert_close(kernels.gelu_(x.clone()), F.gelu(x, approximate="tanh"), rtol=1e-5, atol=1e-6)
    gate, up = x[:, :3000], x[:, 3000:6000]
    both = torch.cat([gate, up], 1)
    torch.testing.assert_close(kernels.swiglu(both), F.silu(gate) * up, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distance", [1, 4, 16, 20])
def test_rotation(kernels, distance):
    projected = torch.randn(5, 3, 3, 2 * distance * 3)
    x = projected[:, :, :2]  # queries and keys, the values lie between them
    cos, sin = torch.randn(2, 5, 1, 1, x.shape[3])
    expected = RotaryEmbedding(distance)(x, Rotary(cos, sin))
    torch.testing.assert_close(kernels.rotate(x, cos, sin, distance), expected)
    torch.testing.assert_close(kernels.rotate(x[:1], cos[:1], sin[:1], distance), expected[:1])


@pytest.mark.parametrize(("heads", "groups", "size"), [(4, 4, 128), (8, 2, 64), (3, 1, 16), (2, 2, 80)])
@pytest.mark.parametrize("length", [1, 7, 300])
def test_attention_of_one_token(kernels, heads, groups, size, length):
    cache = torch.randn(2, groups, length + 20, size).half()
    keys, values = cache[:, :, :length]
    q = torch.randn(heads, size) * 3
    expected = F.scaled_dot_product_attention(q.view(groups, -1, size), keys.float(), values.float()).view(
        heads, size
    )
    torch.testing.assert_close(kernels.attend(q[:, None], keys, values)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("heads", "groups", "size"), [(4, 4, 128), (8, 2, 64), (3, 1, 16), (2, 2, 80)])
@pytest.mark.parametrize(("tokens", "length"), [(1, 1), (7, 9), (40, 40), (37, 300)])
def test_attention_of_many_tokens(kernels, heads, groups, size, tokens, length):
    cache = torch.randn(2, groups, length + 20, size).half()
    keys, values = cache[:, :, :length]
    q = (torch.randn(tokens, heads, 2, size) * 3)[:, :, 1].transpose(0, 1)
    wide = [each.float().repeat_interleave(heads // groups, 0) for each in (keys, values)]
    causal = torch.ones(tokens, length, dtype=torch.bool).tril(length - tokens)
    spotted = torch.rand(tokens, length) < 0.5
    spotted[:, length // 2] = True
    for mask in (None, causal, spotted):
        expected = F.scaled_dot_product_attention(q, *wide, attn_mask=mask).transpose(0, 1)
        found = kernels.attend_prompt(q, keys, values, mask)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
