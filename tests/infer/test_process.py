"""What the child inherits, and the words for how it ended."""

import re

import pytest

from tirami.infer.process import WorkerSettings, _ending, _load_error, _reason, child_environment

SETTINGS = WorkerSettings("/somewhere/private/model.gguf", 1, 64, 0, 8, 0)


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
    ],
)
def test_the_most_telling_reason_is_given(error: str, complaints: str, reason: str) -> None:
    assert _reason(error, complaints) == reason


def test_a_load_error_names_the_file_and_not_where_it_lies() -> None:
    error = _load_error(SETTINGS, "out of memory")
    assert error.message == "cannot load model.gguf: out of memory"
    assert error.data == {"reason": "out of memory"}
