"""A program started on a clock that is ahead."""

import subprocess
import sys
import time
from pathlib import Path

YEAR_S = 365 * 86_400


def test_a_program_reads_the_time_and_its_own_arguments(tmp_path: Path) -> None:
    program = tmp_path / "clock_reader.py"
    program.write_text(
        "import sys\nfrom tirami.core import SystemClock\n"
        "if __name__ == '__main__':\n    print(SystemClock().now_ms(), *sys.argv[1:])\n"
    )
    command = [sys.executable, "-m", "tirami.testing.ahead", str(YEAR_S), "clock_reader", "--port", "0"]
    before_s = time.time()
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    read_ms, *arguments = done.stdout.split()
    assert 1000 * before_s <= int(read_ms) - 1000 * YEAR_S + 1 <= 1000 * time.time() + 1
    assert arguments == ["--port", "0"]
