"""What the child inherits, and the words for how it ended."""

import re
from types import SimpleNamespace

import pytest

from tirami.infer import worker
from tirami.infer.process import WorkerSettings, _ending, _load_error, _reason, child_environment

SETTINGS = WorkerSettings("/somewhere/private/model.gguf", 1, 64, 64, 0, 8, 0)


@pytest.mark.parametrize(
    "name",
    [
        "TIRAMI_API_TOKEN",
        "TIRAMI_KEYSTORE_PASSPHRASE",
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "db_password",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "Client_Secret",
    ],
)
def test_what_looks_like_a_secret_is_not_inherited(name: str) -> None:
    assert child_environment({name: "x", "PATH": "/bin", "LD_LIBRARY_PATH": "/lib"}) == {
        "PATH": "/bin",
        "LD_LIBRARY_PATH": "/lib",
    }


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "code 0"),
        (1, "code 1"),
        (-9, r"SIGKILL \(the kernel was short of memory\?\)"),
        (-11, "SIGSEGV$"),
        (-99, "99"),
    ],
)
def test_an_end_is_put_into_words(code: int, words: str) -> None:
    assert re.search(words, _ending(code))


@pytest.mark.parametrize(
    ("error", "complaints", "reason"),
    [
        ("boom", "", "boom"),
        ("boom", "ggml: failed to allocate 12 MiB\nerror loading model: x", "out of memory"),
        ("std::bad_alloc", "", "out of memory"),
        ("failed to map segment from shared object: Cannot allocate memory", "", "out of memory"),
        (
            "boom",
            "llama: error loading model: tensor 'a' is not within the file\nmore",
            "tensor 'a' is not within the file",
        ),
        ("ended", "ggml.c:3355: GGML_ASSERT(a == b(c)) failed\nmore", "GGML_ASSERT(a == b(c)) failed"),
    ],
)
def test_the_most_telling_reason_is_given(error: str, complaints: str, reason: str) -> None:
    assert _reason(error, complaints) == reason


def test_a_load_error_names_the_file_and_not_where_it_lies() -> None:
    error = _load_error(SETTINGS, "out of memory")
    assert error.message == "cannot load model.gguf: out of memory"
    assert error.data == {"reason": "out of memory"}


GPU_SERVER = b"""ggml_cuda_init: found 1 CUDA devices:
llama_model_load_from_file_impl: using device CUDA0 (NVIDIA GeForce RTX 3090) (0000:01:00.0) - 23871 MiB free
load_tensors: offloading output layer to GPU
load_tensors: offloaded 31/31 layers to GPU
"""


def test_a_server_with_a_gpu_tells_device_and_layers() -> None:
    told = worker._told_hardware(GPU_SERVER)
    assert told == {"device": "CUDA0 (NVIDIA GeForce RTX 3090)", "offloaded": 31}


@pytest.mark.parametrize("said", [b"", b"main: server is listening", GPU_SERVER.partition(b"load_tensors")[0]])
def test_of_a_server_that_does_not_tell_nothing_is_claimed(said: bytes) -> None:
    assert worker._told_hardware(said) == {}


class _Library:
    """The device list of a build; the test has no GPU."""

    def __init__(self, *devices: tuple[str, str]) -> None:
        self._devices = devices

    def get_device_info(self) -> list[dict[str, object]]:
        kind = {"CPU": "GGML_BACKEND_DEVICE_TYPE_CPU", "Metal": "GGML_BACKEND_DEVICE_TYPE_GPU"}
        return [
            {"name": name, "description": text, "type": SimpleNamespace(name=kind[name])}
            for name, text in self._devices
        ]


def test_the_library_computes_on_its_gpu_if_it_has_one() -> None:
    cpu, gpu = ("CPU", "Intel"), ("Metal", "Apple M2")
    assert worker._hardware(_Library(cpu)) == {"device": "CPU (Intel)", "offloaded": 0}
    assert worker._hardware(_Library(cpu, gpu)) == {"device": "Metal (Apple M2)", "offloaded": -1}
