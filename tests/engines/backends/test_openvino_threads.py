"""OpenVINO in threads that begin together."""

import subprocess
import sys


def test_threads_begin_at_the_same_time() -> None:
    """15 of 20 such processes hung when the first arrays of tensors were theirs to make."""
    script = """if True:
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from threading import Barrier
        import s2svos
        from s2svos.sample.render import render

        tracker = s2svos.load(engine="openvino")
        (frame, ids), *_ = render(length=2, height=256, width=448)
        barrier = Barrier(3)

        def begin(number):
            barrier.wait()
            tracker.open(frame, ids)

        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(begin, range(3)))
    """
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
