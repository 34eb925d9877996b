"""``python -m tools.vectors``: write every generated file that is not as it must be, and name it."""

from tools.vectors.documents import DOCS, rendered


def main() -> None:
    for path, data in rendered().items():
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print(path.relative_to(DOCS.parent.parent))


if __name__ == "__main__":
    main()
