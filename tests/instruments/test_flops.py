"""FLOPs against published figures and hand arithmetic."""

import itertools
import math

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.usefixtures("undisturbed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TorchScript, quantisation
    pytest.mark.filterwarnings("ignore::UserWarning"),  # nested tensors are a prototype
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

if True:  # after the skip
    from counting import counted, counters, flops
    from torch import nn
    from torch.nn import functional

    from pytest_infergate.instruments import flops as formulas
    from pytest_infergate.instruments import operator_counters

DTYPES = (torch.float32, torch.bfloat16)


# Published figures, in GFLOP; a multiplication and an addition are two operations


class Bottleneck(nn.Module):
    """A block of ResNet-50: three convolutions, and one beside them where the shape changes."""

    def __init__(self, width, inner, stride):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner),
        )  # fmt: skip
        beside = nn.Conv2d(width, 4 * inner, 1, stride, bias=False), nn.BatchNorm2d(4 * inner)
        self.beside = nn.Identity() if width == 4 * inner else nn.Sequential(*beside)

    def forward(self, x):
        return torch.relu(self.inner(x) + self.beside(x))


def resnet():
    blocks, width = [], 64
    for inner, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for index in range(count):
            blocks.append(Bottleneck(width, inner, 2 if index == 0 and inner > 64 else 1))
            width = 4 * inner
    stem = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    model = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))
    return model, torch.rand(1, 3, 224, 224)


def base():
    """The encoder that ViT-B and BERT-base share."""
    layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True)
    return nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.encoder, self.head = nn.Conv2d(3, 768, 16, 16), base(), nn.Linear(768, 1000)
        self.first = nn.Parameter(torch.zeros(1, 1, 768))

    def forward(self, x):
        return self.head(self.encoder(torch.cat([self.first, self.patches(x).flatten(2).mT], 1))[:, 0])


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.text, self.encoder, self.pooler = nn.Embedding(30522, 768), base(), nn.Linear(768, 768)

    def forward(self, x):
        return torch.tanh(self.pooler(self.encoder(self.text(x))[:, 0]))


def vit():
    return Vit(), torch.rand(1, 3, 224, 224)


def bert():
    return Bert(), torch.zeros(1, 128, dtype=torch.long)


PUBLISHED = {resnet: 8.18, vit: 35.1, bert: 22.35}


def flops_of_published(make, figure):
    """The FLOPs of a model without memory, which are those of its published figure."""
    figures = []
    with torch.device("meta"):
        model, x = make()
        for dtype in DTYPES:
            model.to(dtype).eval()
            cast = x.to(dtype) if x.is_floating_point() else x
            figures.append(flops(lambda cast=cast: model(cast)))
    assert figures[0] == figures[1]
    assert figures[0] / 1e9 == pytest.approx(figure, rel=0.005)
    return figures[0]


@pytest.mark.parametrize("make", PUBLISHED)
def test_published_figures(make):
    flops_of_published(make, PUBLISHED[make])


@pytest.mark.nightly
def test_models_of_transformers_have_the_published_figures():
    transformers = pytest.importorskip("transformers")
    for own, name in (
        (resnet, "ResNetForImageClassification"),
        (vit, "ViTForImageClassification"),
        (bert, "BertModel"),
    ):

        def make(own=own, name=name):
            kind = getattr(transformers, name)
            return kind(kind.config_class(num_labels=1000)), own()[1]

        assert flops_of_published(make, PUBLISHED[own]) == flops_of_published(own, PUBLISHED[own]), name


# Recurrent layers

STEPS, BATCH, FEATURES, HIDDEN = 5, 3, 16, 32
GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}


def recurrent(kind, layers, directions):
    """Each gate of each step multiplies the input and the state, by a matrix each."""
    total = 0
    for layer in range(layers):
        width = FEATURES if layer == 0 else directions * HIDDEN
        total += directions * GATES[kind] * HIDDEN * (width + HIDDEN)
    return 2 * STEPS * BATCH * total


def test_recurrent_layers():
    booleans = (False, True)
    for case in itertools.product(GATES, booleans, (1, 2), booleans, DTYPES):
        kind, batch_first, layers, bidirectional, dtype = case
        model = kind(FEATURES, HIDDEN, layers, batch_first=batch_first, bidirectional=bidirectional)
        shape = (BATCH, STEPS, FEATURES) if batch_first else (STEPS, BATCH, FEATURES)
        model, x = model.to(dtype).eval(), torch.rand(shape, dtype=dtype)
        assert flops(lambda model=model, x=x: model(x)) == recurrent(kind, layers, 1 + bidirectional), case


def test_an_lstm_with_a_projection():
    gates, projection = 4 * HIDDEN * (FEATURES + 8), HIDDEN * 8
    for dtype in DTYPES:
        model = nn.LSTM(FEATURES, HIDDEN, proj_size=8, dtype=dtype).eval()
        x = torch.rand(STEPS, BATCH, FEATURES, dtype=dtype)
        figure = flops(lambda model=model, x=x: model(x))
        assert figure == 2 * STEPS * BATCH * (gates + projection), dtype


def test_recurrent_layers_over_packed_sequences():
    packed = nn.utils.rnn.pack_sequence([torch.rand(5, FEATURES), torch.rand(2, FEATURES)])
    for kind, gates in GATES.items():
        model = kind(FEATURES, HIDDEN).eval()
        figure = flops(lambda model=model: model(packed))
        assert figure == 2 * (5 + 2) * gates * HIDDEN * (FEATURES + HIDDEN), kind


# Attention

HEADS = 4


@pytest.fixture
def slow_path():
    """Without the fused operators of attention and its encoder layers."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def projections(*lengths):
    return sum(2 * BATCH * length * HIDDEN**2 for length in lengths)


def scores(steps, read):
    """Queries by keys, and by values."""
    return 4 * BATCH * steps * read * HIDDEN


def attention(*, need_weights):
    model, x = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True).eval(), torch.rand(BATCH, 7, HIDDEN)
    return model(x, x, x, need_weights=need_weights)


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention(need_weights):
    seen = counted(lambda: attention(need_weights=need_weights))
    assert "aten::_native_multi_head_attention" in {row.operator for row in seen.work}
    assert seen.totals["flops"] == projections(7, 7, 7, 7) + scores(7, 7)


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_on_the_slow_path(slow_path, need_weights):
    seen = counted(lambda: attention(need_weights=need_weights))
    assert "aten::_native_multi_head_attention" not in {row.operator for row in seen.work}
    assert seen.totals["flops"] == projections(7, 7, 7, 7) + scores(7, 7)


@pytest.mark.parametrize("need_weights", [False, True])
def test_cross_attention(need_weights):
    model = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True).eval()
    x, y = torch.rand(BATCH, 7, HIDDEN), torch.rand(BATCH, 9, HIDDEN)
    figure = projections(7, 9, 9, 7) + scores(7, 9)
    assert flops(lambda: model(x, y, y, need_weights=need_weights)) == figure


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fused_attention(dtype, masked):
    q, k = torch.rand(BATCH, HEADS, 7, 8, dtype=dtype), torch.rand(BATCH, HEADS, 9, 8, dtype=dtype)
    mask = torch.zeros(7, 9, dtype=dtype) if masked else None
    assert flops(lambda: functional.scaled_dot_product_attention(q, k, k, mask)) == scores(7, 9)


def test_fused_attention_counts_as_its_parts():
    q, k = torch.rand(BATCH, HEADS, 7, 8), torch.rand(BATCH, HEADS, 9, 8)
    fused = flops(lambda: functional.scaled_dot_product_attention(q, k, k))
    assert fused == flops(lambda: torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(8), -1) @ k)


def encoder(layers=1):
    layer = nn.TransformerEncoderLayer(HIDDEN, HEADS, 64, batch_first=True)
    return nn.TransformerEncoder(layer, layers).eval()


def encoder_layer(*lengths):
    """Four projections, attention, and a feed-forward part of two products, for sequences of their own."""
    return sum(length * (8 * HIDDEN**2 + 4 * length * HIDDEN + 4 * HIDDEN * 64) for length in lengths)


def test_an_encoder_layer():
    seen = counted(lambda: encoder()(torch.rand(BATCH, 7, HIDDEN)))
    assert "aten::_transformer_encoder_layer_fwd" in {row.operator for row in seen.work}
    assert seen.totals["flops"] == encoder_layer(*[7] * BATCH)


def test_an_encoder_layer_on_the_slow_path(slow_path):
    assert flops(lambda: encoder()(torch.rand(BATCH, 7, HIDDEN))) == encoder_layer(*[7] * BATCH)


def test_an_encoder_leaves_out_what_is_padded():
    model, x = encoder(2), torch.rand(2, 7, HIDDEN)
    padding = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
    assert flops(lambda: model(x, src_key_padding_mask=padding)) == 2 * encoder_layer(7, 4)


def test_an_encoder_multiplies_what_is_padded_on_the_slow_path(slow_path):
    model, x = encoder(2), torch.rand(2, 7, HIDDEN)
    padding = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
    assert flops(lambda: model(x, src_key_padding_mask=padding)) == 2 * encoder_layer(7, 7)


# Every formula of ours, by hand


def packed(operator, *args):
    weight = torch.quantize_per_tensor(torch.rand(8, 16), 0.1, 0, torch.qint8)
    return getattr(torch.ops.quantized, operator)(
        *args[:1], torch.ops.quantized.linear_prepack(weight, None), *args[1:]
    )


def quantised():
    return torch.quantize_per_tensor(torch.rand(4, 16), 0.1, 0, torch.quint8)


def half_packed():
    weight = torch.ops.quantized.linear_prepack_fp16(torch.rand(8, 16), None)
    return torch.ops.quantized.linear_dynamic_fp16(torch.rand(4, 16), weight)


def nested():
    return torch.nested.nested_tensor([torch.rand(2, 16), torch.rand(3, 16)])


def attend():
    x = torch.rand(1, 2, 8, 16)
    return functional.scaled_dot_product_attention(x, x, x)


def bytes_(*shape):
    return torch.zeros(shape, dtype=torch.int8)


def int8_packed():
    scales = torch.ones(16, dtype=torch.bfloat16)
    return torch._weight_int8pack_mm(torch.rand(4, 32, dtype=torch.bfloat16), bytes_(16, 32), scales)


def mkldnn_linear():
    return torch.ops.aten.mkldnn_linear(torch.rand(4, 16).to_mkldnn(), torch.rand(8, 16).to_mkldnn(), None)


RUN = {
    "aten._scaled_dot_product_flash_attention_for_cpu": (attend, 4 * 2 * 8 * 8 * 16),
    "aten.mkldnn_rnn_layer": (lambda: nn.LSTM(16, 32)(torch.rand(5, 3, 16)), 2 * 5 * 3 * 4 * 32 * (16 + 32)),
    "aten._native_multi_head_attention": (
        lambda: attention(need_weights=True),
        projections(7, 7, 7, 7) + scores(7, 7),
    ),
    "aten._transformer_encoder_layer_fwd": (lambda: encoder()(torch.rand(1, 7, HIDDEN)), encoder_layer(7)),
    "aten._int_mm": (lambda: torch._int_mm(bytes_(17, 32), bytes_(32, 24)), 2 * 17 * 32 * 24),
    "aten._weight_int8pack_mm": (int8_packed, 2 * 4 * 32 * 16),
    "aten.linear": (lambda: functional.linear(nested(), torch.rand(8, 16)), 2 * (2 + 3) * 16 * 8),
    "aten.mkldnn_linear": (mkldnn_linear, 2 * 4 * 16 * 8),
    "aten.mv": (lambda: torch.mv(torch.rand(8, 16), torch.rand(16)), 2 * 8 * 16),
    "aten.dot": (lambda: torch.dot(torch.rand(16), torch.rand(16)), 2 * 16),
    "aten.vdot": (lambda: torch.vdot(torch.rand(16), torch.rand(16)), 2 * 16),
    "aten.addmv": (lambda: torch.addmv(torch.rand(8), torch.rand(8, 16), torch.rand(16)), 2 * 8 * 16),
    "aten.addbmm": (
        lambda: torch.addbmm(torch.rand(4, 6), torch.rand(3, 4, 5), torch.rand(3, 5, 6)),
        2 * 3 * 4 * 5 * 6,
    ),
    "quantized.linear": (lambda: packed("linear", quantised(), 0.1, 0), 2 * 4 * 16 * 8),
    "quantized.linear_relu": (lambda: packed("linear_relu", quantised(), 0.1, 0), 2 * 4 * 16 * 8),
    "quantized.linear_dynamic": (lambda: packed("linear_dynamic", torch.rand(4, 16)), 2 * 4 * 16 * 8),
    "quantized.linear_relu_dynamic": (
        lambda: packed("linear_relu_dynamic", torch.rand(4, 16)),
        2 * 4 * 16 * 8,
    ),
    "quantized.linear_dynamic_fp16": (half_packed, 2 * 4 * 16 * 8),
    "mkldnn._linear_pointwise": (
        lambda: torch.ops.mkldnn._linear_pointwise(
            torch.rand(4, 16), torch.rand(8, 16), None, "none", [], ""
        ),
        2 * 4 * 16 * 8,
    ),
}
"""Operators that run on this CPU: a call that runs it, and its FLOPs."""


def empty(*shape):
    return torch.empty(shape, device="meta")


GIVEN = {
    "aten._scaled_dot_product_fused_attention_overrideable": (
        (empty(1, 2, 8, 16), empty(1, 2, 9, 16), empty(1, 2, 9, 16)),
        None,
        4 * 2 * 8 * 9 * 16,
    ),
    "aten._scaled_dot_product_attention_math_for_mps": (
        (empty(1, 2, 8, 16), empty(1, 2, 9, 16), empty(1, 2, 9, 16)),
        None,
        4 * 2 * 8 * 9 * 16,
    ),
    "aten._cudnn_rnn": (
        (empty(5, 3, 16), [empty(128, 16), empty(128, 32), empty(128), empty(128)], 4),
        None,
        2 * 5 * 3 * 4 * 32 * (16 + 32),
    ),
    "aten._weight_int4pack_mm": ((empty(4, 64), empty(4, 2, 32, 4), 32), empty(4, 32), 2 * 4 * 64 * 32),
    "aten._weight_int4pack_mm_for_cpu": ((empty(4, 64), empty(32, 32), 32), empty(4, 32), 2 * 4 * 64 * 32),
    "aten._grouped_mm": ((empty(12, 8), empty(3, 8, 5)), empty(12, 5), 2 * 12 * 8 * 5),
    "aten._addmm_activation": ((empty(5), empty(4, 8), empty(8, 5)), empty(4, 5), 2 * 4 * 8 * 5),
    "aten._dyn_quant_matmul_4bit": ((empty(4, 64), empty(1408), 32, 64, 32), empty(4, 32), 2 * 4 * 64 * 32),
}
"""Operators of other hardware: what they are given and return, and their FLOPs."""


def here(name):
    """Whether this build of torch can run an operator."""
    namespace, _, operator = name.partition(".")
    if namespace == "quantized" and "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    if "mkldnn" in name and not torch.backends.mkldnn.is_available():
        return False
    return hasattr(getattr(torch.ops, namespace), operator)


def test_every_formula_is_checked():
    assert {*RUN, *GIVEN} == set(formulas._FORMULAS)


@pytest.mark.parametrize("name", RUN)
def test_operators_of_this_cpu(name):
    if not here(name):
        pytest.skip(f"this torch has no {name}")
    call, figure = RUN[name]
    seen = counted(call)
    work = {row.operator.replace("::", "."): row.flops for row in seen.work}
    assert (work[name], seen.totals["flops"]) == (figure, figure)


@pytest.mark.parametrize("name", GIVEN)
def test_operators_of_other_hardware(name):
    if not here(name):
        pytest.skip(f"this torch has no {name}")
    namespace, _, operator = name.partition(".")
    args, result, figure = GIVEN[name]
    assert formulas.formula(getattr(getattr(torch.ops, namespace), operator))(*args, out_val=result) == figure


def test_groups_of_two_matrices_share_the_summed_axis():
    given = empty(4, 12), empty(12, 5)
    assert formulas.formula(torch.ops.aten._grouped_mm)(*given, out_val=empty(3, 4, 5)) == 2 * 4 * 12 * 5


@pytest.mark.parametrize(
    ("call", "figure"),
    [
        (lambda: torch.rand(4, 6).addmm_(torch.rand(4, 5), torch.rand(5, 6)), 2 * 4 * 5 * 6),
        (lambda: torch.rand(3, 4, 6).baddbmm_(torch.rand(3, 4, 5), torch.rand(3, 5, 6)), 2 * 3 * 4 * 5 * 6),
        (lambda: torch.rand(4, 6).addbmm_(torch.rand(3, 4, 5), torch.rand(3, 5, 6)), 2 * 3 * 4 * 5 * 6),
        (lambda: torch.rand(8).addmv_(torch.rand(8, 16), torch.rand(16)), 2 * 8 * 16),
        (lambda: torch.mm(torch.rand(4, 5), torch.rand(5, 6), out=torch.empty(4, 6)), 2 * 4 * 5 * 6),
    ],
    ids=["addmm_", "baddbmm_", "addbmm_", "addmv_", "mm.out"],
)
def test_products_in_place(call, figure):
    assert flops(call) == figure


A, B = torch.rand(3, 4, 5, dtype=torch.complex64), torch.rand(3, 5, 6, dtype=torch.complex64)


@pytest.mark.parametrize(
    ("call", "products"),
    [
        (lambda: A[0] @ B[0], 4 * 5 * 6),
        (lambda: A @ B, 3 * 4 * 5 * 6),
        (lambda: torch.bmm(A, B), 3 * 4 * 5 * 6),
        (lambda: torch.addmm(B[0, :4], A[0], B[0]), 4 * 5 * 6),
        (lambda: torch.baddbmm(B[:, :4], A, B), 3 * 4 * 5 * 6),
        (lambda: torch.einsum("bij,bjk->bik", A, B), 3 * 4 * 5 * 6),
        (lambda: torch.tensordot(A[0], B[0], 1), 4 * 5 * 6),
        (lambda: functional.linear(A, B[0].t()), 3 * 4 * 5 * 6),
        (lambda: A[0].conj() @ B[0], 4 * 5 * 6),
        (lambda: A[0] @ B[0, :, 0], 4 * 5),
        (lambda: torch.vdot(A[0, 0], A[0, 0]), 5),
        (lambda: nn.Linear(5, 6, dtype=torch.complex64)(A), 3 * 4 * 5 * 6),
    ],
)
def test_products_of_complex_numbers(call, products):
    """Four products of real numbers and as many additions each."""
    assert flops(call) == 8 * products


def test_a_complex_convolution_is_three_real_ones():
    x, weight = torch.rand(1, 2, 10, dtype=torch.complex64), torch.rand(3, 2, 4, dtype=torch.complex64)
    assert flops(lambda: functional.conv1d(x, weight)) == 3 * 2 * (3 * 7) * (2 * 4)


def test_our_formulas_are_not_upstream_s():
    both = sorted(formulas._FORMULAS.keys() & formulas._UPSTREAM.keys())
    assert not both, f"torch.utils.flop_counter has formulas for {both} now: ours can go"


# Other ways to run the same model


@pytest.mark.parametrize(
    "make",
    [
        lambda: (nn.Linear(8, 4), torch.rand(2, 8)),
        lambda: (nn.Conv2d(3, 8, 3, groups=1, stride=2), torch.rand(2, 3, 9, 9)),
        lambda: (nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.ReLU()), torch.rand(2, 4, 9)),
        lambda: (nn.ConvTranspose2d(3, 8, 3), torch.rand(2, 3, 9, 9)),
        lambda: (nn.LSTM(8, 4), torch.rand(3, 2, 8)),
        lambda: (nn.GRU(8, 4), torch.rand(3, 2, 8)),
        lambda: (encoder(), torch.rand(2, 7, HIDDEN)),
        lambda: (nn.MultiheadAttention(8, 2, batch_first=True), *[torch.rand(2, 5, 8)] * 3),
    ],
    ids=["linear", "conv", "batch-norm", "transposed", "lstm", "gru", "encoder", "attention"],
)
def test_gradients_change_no_figure(make):
    model, *args = make()
    model.eval()
    figure = flops(lambda: model(*args))
    with torch.no_grad():
        assert operator_counters.counters(lambda: model(*args), "cpu").totals["flops"] == figure
    assert operator_counters.counters(lambda: model(*args), "cpu").totals["flops"] == figure
    assert figure > 0


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.rnn, self.head = nn.Conv1d(4, 8, 3), nn.LSTM(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        states = self.rnn(self.conv(x).permute(2, 0, 1))[0]
        return self.head(torch.softmax(states @ states.transpose(1, 2), -1) @ states)


@pytest.mark.parametrize(
    "convert",
    [
        torch.jit.script,
        lambda model: torch.jit.trace(model, torch.rand(2, 4, 9), check_trace=False),
        lambda model: torch.jit.freeze(torch.jit.script(model)),
        lambda model: torch.jit.optimize_for_inference(torch.jit.script(model)),
    ],
    ids=["script", "trace", "freeze", "optimize_for_inference"],
)
def test_torchscript_counts_as_eager(convert):
    x, model = torch.rand(2, 4, 9), Mixed().eval()
    assert counters(convert(model), x).totals["flops"] == flops(lambda: model(x)) > 0


def test_a_dynamically_quantised_model():
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(16, 8), nn.ReLU()))
    seen = counted(lambda: model(torch.rand(4, 16)))
    assert seen.totals["flops"] == 2 * 4 * 16 * 8
    assert seen.notes == ()


# What no formula is known for


MISSED = (
    "mine::op",
    "aten::_cdist_forward",
    "aten::_fft_r2c",
    "aten::_linalg_svd",
    "aten::_trilinear",
    "aten::_sparse_addmm",
    "aten::_grouped_mm",
    "aten::matmul",
    "aten::gru",
    "aten::cholesky",
    "aten::mkldnn_convolution",
    "aten::conv_tbc",
    "aten::_fused_attention",
)
COUNTED = (
    "aten::add",
    "aten::_softmax",
    "aten::gelu",
    "aten::native_layer_norm",
    "aten::max_pool2d",
    "aten::cummax",
    "aten::cummin",
    "aten::lgamma",
    "aten::log_gamma",
    "aten::upsample_linear1d",
    "aten::upsample_bilinear2d",
    "aten::linspace",
    "aten::fft_fftfreq",
    "aten::_pack_padded_sequence",
    "aten::_thnn_fused_lstm_cell",
    "aten::flatten_dense_tensors",
    "aten::_fft_shift",
    "prim::device",
    "prims::add",
)
"""Operators that multiply nothing that counts."""


def test_operators_that_are_missed():
    assert [name for name in (*MISSED, *COUNTED) if formulas.uncovered(name)] == [*MISSED]


def test_what_is_missed_is_named():
    seen = counted(
        lambda: torch.fft.rfft(torch.rand(8)) * torch.cdist(torch.rand(30, 2), torch.rand(30, 2)).sum()
    )
    codes = [note.code for note in seen.notes]
    assert codes == ["flops-uncovered"]
    assert "aten::_fft_r2c" in seen.notes[0].text
    assert "no formula is known" in seen.notes[0].text


@pytest.mark.parametrize(
    ("name", "multiplies"),
    [
        ("aten::addmm", True),
        ("aten::addmm_", True),
        ("aten::convolution", True),
        ("aten::conv2d", False),  # calls convolution
        ("aten::linear", False),  # calls addmm
        ("aten::_scaled_dot_product_flash_attention_for_cpu", True),
        ("aten::_weight_int8pack_mm", True),
        ("aten::_fft_r2c", True),
        ("quantized::linear", True),
        ("quantized::linear_dynamic", True),
        ("quantized::linear_prepack", False),
        ("quantized::conv2d_relu", True),
        ("aten::add", False),
        ("aten::native_layer_norm", False),
        ("torchvision::nms", False),
        ("linear", False),  # a region that the user has named
    ],
)
def test_products_are_known_by_formula_or_name(name, multiplies):
    assert formulas.is_product(name) is multiplies
