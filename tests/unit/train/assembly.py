"""Compile a layer and the loss of the published shape for a GPU that is not there, down to its
machine code.

    python -P assembly.py 80

AOTAutograd traces the layer on fake tensors, inductor writes its kernels for `cuda:0` with made-up
properties of a device, triton and ptxas assemble them. It needs triton, and neither a GPU nor
torch's CUDA build. Prints JSON: for `forward`, `backward` and `loss` the fused kernels, the bytes
that they read and write by inductor's count, and the bytes of machine code of each.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

CAPABILITY = int(sys.argv[1])
FOLDER = Path(tempfile.mkdtemp())
os.environ |= {
    "TORCHINDUCTOR_CACHE_DIR": str(FOLDER / "inductor"),
    "TRITON_CACHE_DIR": str(FOLDER / "triton"),
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}

import torch
import torch.cuda
import triton
from torch._dynamo import device_interface
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget

TARGET = GPUTarget("cuda", CAPABILITY, 32)
AMPERE = CAPABILITY < 90
# NVIDIA's figures of an A100 and of an H100.
PROPERTIES = SimpleNamespace(
    name="fake",
    major=CAPABILITY // 10,
    minor=CAPABILITY % 10,
    multi_processor_count=108 if AMPERE else 132,
    total_memory=80 * 2**30,
    max_threads_per_multi_processor=2048,
    regs_per_multiprocessor=65536,
    warp_size=32,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=166912 if AMPERE else 232448,
    shared_memory_per_multiprocessor=167936 if AMPERE else 233472,
    L2_cache_size=(40 if AMPERE else 50) * 2**20,
    gcnArchName="",
    is_integrated=0,
    clock_rate=1410000,
    memory_clock_rate=1593000,
    memory_bus_width=5120,
)


class Driver:
    """What triton asks of a driver."""

    def get_current_target(self) -> GPUTarget:
        return TARGET

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_interface(self) -> ModuleType:
        return torch.cuda

    def get_benchmarker(self) -> None:
        return None


def constant(value: Any) -> Any:
    """Return a function of anything that returns a value."""
    return lambda *_, **__: value


def pretend() -> None:
    """Make torch and triton believe in a device."""
    functions = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_properties": PROPERTIES,
        "get_device_capability": (PROPERTIES.major, PROPERTIES.minor),
        "get_device_name": "fake",
        "is_initialized": True,
        "_lazy_init": None,
        "synchronize": None,
        "current_stream": SimpleNamespace(cuda_stream=0, device=torch.device("cuda", 0)),
        "is_bf16_supported": True,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": None,
    }
    for name, value in functions.items():
        setattr(torch.cuda, name, constant(value))
    bindings = (
        "getDevice",
        "setDevice",
        "getCurrentRawStream",
        "exchangeDevice",
        "maybeExchangeDevice",
        "isInBadFork",
        "hasPrimaryContext",
    )
    for name in bindings:
        setattr(torch._C, f"_cuda_{name}", constant(0))
    torch._C._cuda_getDeviceCount = constant(1)  # type: ignore[attr-defined]
    names = (
        "is_available",
        "device_count",
        "current_device",
        "get_device_properties",
        "synchronize",
        "is_bf16_supported",
    )
    interface = {name: functions[name] for name in names} | {
        "get_compute_capability": CAPABILITY,
        "get_raw_stream": 0,
        "is_triton_capable": True,
        "raise_if_triton_unavailable": None,
        "set_device": None,
        "exchange_device": 0,
        "maybe_exchange_device": 0,
    }
    for name, value in interface.items():
        for holder in (device_interface.CudaInterface, device_interface.CudaInterface.Worker):
            setattr(holder, name, staticmethod(constant(value)))
    triton.runtime.driver.set_active(Driver())  # type: ignore[attr-defined]


class Flash(torch.autograd.Function):
    """The flash kernels of a GPU by name: on fake tensors torch would choose a CPU's."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:  # type: ignore[override]
        out = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, True, False
        )
        ctx.save_for_backward(query, key, value, out[0], out[1], out[6], out[7])
        ctx.longest = (out[4], out[5])
        return out[0]

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        query, key, value, out, lse, seed, offset = ctx.saved_tensors
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_backward
        return kernel(
            outer[0], query, key, value, out, lse, None, None, *ctx.longest, 0.0, True, seed, offset
        )


def traced(mode: FakeTensorMode) -> dict[str, torch.fx.GraphModule]:
    """Return the graphs of a layer's passes and of the loss's block."""
    from functorch.compile import aot_function
    from torch._functorch._aot_autograd.utils import make_boxed_func
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx

    from zagreus.model.llama import Layer, kernels_of
    from zagreus.recipe.read import read_recipe
    from zagreus.training.loss import softmax_gradient

    torch.nn.functional.scaled_dot_product_attention = lambda q, k, v, **_: Flash.apply(q, k, v)  # type: ignore[assignment]
    config = read_recipe("recipes/pretrain/zagreus.yaml").model.model_config
    graphs: dict[str, torch.fx.GraphModule] = {}

    def keep(name: str) -> Any:
        def compiler(graph: torch.fx.GraphModule, inputs: Any) -> Any:
            graphs[name] = graph
            return make_boxed_func(graph.forward)

        return compiler

    with mode:
        torch.set_default_dtype(torch.bfloat16)
        layer = Layer(config, kernels_of("torch"))
        torch.set_default_dtype(torch.float32)
        x = torch.empty(4, 4096, config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
        tables = torch.empty(2, 4096, config.head_size // 2)
        names = [name for name, _ in layer.named_parameters()]

        def run(x: Any, cosine: Any, sine: Any, *parameters: Any) -> Any:
            return torch.func.functional_call(
                layer, dict(zip(names, parameters, strict=True)), (x, cosine, sine)
            )

        function = aot_function(
            run,
            fw_compiler=keep("forward"),
            bw_compiler=keep("backward"),
            partition_fn=min_cut_rematerialization_partition,
            decompositions=select_decomp_table(),
        )
        function(x, *tables, *layer.parameters()).sum().backward()
        block = (
            torch.empty(4096, 128_256, dtype=torch.bfloat16),
            torch.empty(4096, 1, dtype=torch.int64),
        )
        graphs["loss"] = make_fx(softmax_gradient, decomposition_table=select_decomp_table())(
            *block
        )
    return graphs


def lowered(
    name: str, graph_module: torch.fx.GraphModule, mode: FakeTensorMode
) -> tuple[str, int, int]:
    """Return inductor's code for a graph, the number of its fused kernels, and their bytes."""
    from torch._guards import TracingContext, tracing
    from torch._inductor.debug import DebugContext
    from torch._inductor.fx_passes import reinplace
    from torch._inductor.fx_passes.post_grad import post_grad_passes, view_to_reshape
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp

    reinplace.canonicalize_view_scatter_ops = lambda graph: None  # type: ignore[assignment]
    for node in graph_module.graph.nodes:  # constants that were traced for the CPU
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": torch.device("cuda", 0)}
    graph_module.recompile()
    with mode:
        values = [node.meta["val"] for node in graph_module.graph.nodes if node.op == "placeholder"]
        inputs = [
            torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda:0")
            if isinstance(value, torch.Tensor)
            else value
            for value in values
        ]
    FakeTensorProp(graph_module, mode).propagate_dont_convert_inputs(*inputs)
    with mode, tracing(TracingContext(mode)):
        view_to_reshape(graph_module)
        with V.set_fake_mode(mode):
            post_grad_passes(graph_module, is_inference=False)
            graph = GraphLowering(
                graph_module,
                example_inputs=inputs,
                is_inference=False,
                is_backward=name == "backward",
            )
            with V.set_debug_handler(DebugContext()), V.set_graph_handler(graph):  # type: ignore[no-untyped-call, arg-type]
                graph.run(*inputs)
                code, _ = graph.codegen()
    with mode, V.set_fake_mode(mode), V.set_graph_handler(graph):
        _, nodes, *_ = graph.count_bytes()
    fused = [
        size
        for node, size in nodes
        if type(node).__name__ not in ("ExternKernelSchedulerNode", "NopKernelSchedulerNode")
    ]
    return (
        code if isinstance(code, str) else code.value,
        len(fused),
        4 * sum(fused),
    )  # it counts elements of four bytes


def assembled(code: str) -> dict[str, int]:
    """Return the bytes of machine code of each triton kernel in inductor's code."""
    import copy

    from torch._inductor.runtime import triton_helpers

    triton_helpers.set_driver_to_gpu = lambda: None  # type: ignore[assignment]
    sizes = {}
    for name, body in re.findall(r"async_compile\.triton\('(\w+)', '''\n(.*?)'''", code, re.S):
        path = FOLDER / f"{name}.py"
        path.write_text(body)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        tuner = getattr(module, name)
        choice, meta = tuner.configs[0], copy.deepcopy(tuner.triton_meta)
        names = tuner.fn.arg_names
        constants = {**meta.get("constants", {}), **choice.kwargs}
        signature = {
            key: "constexpr" if key in constants else value
            for key, value in meta["signature"].items()
        }
        signature |= {key: "constexpr" for key in names if key in constants}
        places = {(names.index(key),): value for key, value in constants.items() if key in names}
        source = triton.compiler.ASTSource(tuner.fn, signature, places, meta["configs"][0])
        options = {"num_warps": choice.num_warps, "num_stages": choice.num_stages}
        sizes[name] = len(triton.compile(source, target=TARGET, options=options).asm["cubin"])
    return sizes


def main() -> None:
    pretend()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    result = {}
    for name, graph in traced(mode).items():
        code, kernels, size = lowered(name, graph, mode)
        result[name] = {"kernels": kernels, "bytes": size, "cubins": assembled(code)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
